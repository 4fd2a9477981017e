"""Bundles that people made of the configured ones: other zones, thresholds, another network; activated, taken back."""
