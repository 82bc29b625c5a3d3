"""One update of a run, walked again in this process for a person to look at."""
