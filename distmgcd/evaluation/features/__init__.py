"""Feature networks that distances are measured in."""
