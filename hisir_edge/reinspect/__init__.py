"""Archived boards inspected once more, with another bundle, and both verdicts side by side."""
