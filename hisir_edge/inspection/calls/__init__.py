"""Another inspection machine's calls, answered from what the line itself has seen."""
