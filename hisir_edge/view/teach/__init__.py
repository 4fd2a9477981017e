"""Teaching a line: trials on its archived boards, revisions, and what is reviewed for the next training."""
