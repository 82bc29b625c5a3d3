"""Connecting to Ray, and what a cluster has room for."""
