"""What a bundle is worth on labelled pictures."""
