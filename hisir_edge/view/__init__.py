"""The operator's page: see the board, judge the call. A subscriber like any other, in a process of its own."""
