"""The build stage of the first look: distilled from the whole network, bounded by defects that it is shown."""
