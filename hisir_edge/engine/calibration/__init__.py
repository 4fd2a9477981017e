"""Ranges of int8 activations, and which layers take them worst."""
