"""Boards as they were inspected, kept on disk: one file a board, to be looked at, judged and inspected again."""
