"""Shared by both ends of a socket: addresses, keys, the control client, run lengths."""
