"""How the same chain runs fast on a device: traced, captured, compiled, and the forms of its convolutions."""
