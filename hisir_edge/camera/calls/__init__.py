"""Boards and what another inspection machine called on them, as a camera."""
