"""Features of a run's networks, judged by classification from few labels."""
