"""A deployable product in one folder: what is in it, and how it is loaded."""
