"""Start a run or a sweep, after everything that a user can get wrong has been checked."""
