"""How workers share a batch so that the update is exactly the update of one worker."""
