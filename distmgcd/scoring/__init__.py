"""What a trained run is worth: samples drawn by all workers, every number taken once, written with its protocol."""
