"""Sweeps: what to try, what came of it, and a report of it. Nothing here imports Ray."""
