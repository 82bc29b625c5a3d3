"""A run on Ray Train."""
