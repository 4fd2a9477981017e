"""The line's configuration, line.toml: its tables and how it is read."""
