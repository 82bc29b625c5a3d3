"""What a run leaves on disk: its folder, checkpoints and log, on any file system."""
