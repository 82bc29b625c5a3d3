"""One update of a run, computed again in this process for a person to look at."""
