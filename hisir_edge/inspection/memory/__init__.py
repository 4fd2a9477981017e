"""The board memory as a frame shows it: which variant each place has, and its tiles."""
