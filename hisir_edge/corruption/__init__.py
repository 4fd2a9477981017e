"""Defects made in pictures of good boards: to train on, to check engines with, and to test a loaded bundle with."""
