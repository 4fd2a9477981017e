"""The line: grab, register, tile, infer, merge, judge, publish. Imports neither torch nor learn/ nor sim/."""
