"""Verdicts on disk, in order, until they are published and beyond."""
