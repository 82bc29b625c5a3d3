"""Distances, precision and recall of samples to held-out images: in pixels and in the features of a network."""
