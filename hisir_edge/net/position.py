"""Positional cue: the board memory at the tile's place enters the network beside the tile.

The memory is what the good boards look like at each position: mean colour (3 channels) and
deviation (1 channel), uint8, frame-sized. A tile's cue is the crop of the memory at the tile's
origin, so that the network compares a place with its own past: a missing part does not pass as the
empty pad that is normal elsewhere (decision 0003).
"""

CUE_CHANNELS = 4
DEVIATION_GAIN = 4
"""The deviation is stored as uint8 in quarters of a grey level."""
