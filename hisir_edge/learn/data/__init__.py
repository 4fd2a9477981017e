"""Data sets, the memory of good boards, tiles to train on."""
