"""Images decoded once per node, into memory-mapped files that all processes of the node share."""
