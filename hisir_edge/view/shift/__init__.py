"""A shift's boards: those that a line passed, looked at by a person, and then counted among the good ones."""
