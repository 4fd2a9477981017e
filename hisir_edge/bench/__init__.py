"""Speed and memory of a bundle, beside the limits of the machine."""
