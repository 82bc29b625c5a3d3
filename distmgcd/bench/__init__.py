"""Measurements of this machine, as `distmgcd bench` prints them."""
