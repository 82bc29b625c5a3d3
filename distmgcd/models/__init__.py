"""Models from a config or from a run: networks, chains, samples."""
