"""How good a run is: one subject per folder, every number written with its protocol."""
