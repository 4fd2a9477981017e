"""What both ends of a socket share: addresses, keys, the control client, run lengths."""
