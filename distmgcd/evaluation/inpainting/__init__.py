"""Hidden pixels filled by a run, and how near that comes to the images."""
