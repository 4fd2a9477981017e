"""The network: backbones, positional cue, SIR-Gate and their losses (torch; training side only)."""
