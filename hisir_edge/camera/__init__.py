"""Cameras and their stand-ins: each gives frames in order."""
