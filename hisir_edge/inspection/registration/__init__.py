"""Finds the board in a frame: held nearly in place by a fixture, or anywhere; gives its pose."""
