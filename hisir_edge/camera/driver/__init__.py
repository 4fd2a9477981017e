"""The camera's own process: its library, its features, its frames into the ring."""
