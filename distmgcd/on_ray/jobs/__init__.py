"""Jobs on a cluster: submitted, listed, followed, stopped."""
