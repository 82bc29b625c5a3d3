"""One process or one of many: averages and gathers over workers, requests to stop, and the watchdog."""
