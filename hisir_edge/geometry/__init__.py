"""Pure values: frame size to tiles, regions and cells."""
