"""The cheap first look: which tiles of a frame the whole network has to see."""
