"""Training that goes on with what people have said of a line's calls."""
