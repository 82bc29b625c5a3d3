"""A package, so that a process that a test spawns finds the test, though something else installs a `tests`, too."""
