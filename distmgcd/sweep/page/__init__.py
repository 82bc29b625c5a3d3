"""report.html of a sweep: one file that opens without a network."""
