"""One board: locate, register, tile, infer, merge, judge. No threads of the line, no sockets."""
