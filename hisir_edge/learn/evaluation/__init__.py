"""Evaluation of a bundle on labelled pictures."""
