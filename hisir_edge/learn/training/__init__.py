"""The training loop, on one machine or several."""
