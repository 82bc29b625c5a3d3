"""The training loop and what it needs, with or without a cluster: nothing here imports Ray."""
