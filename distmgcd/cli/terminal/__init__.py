"""What a command shows while it runs: a moving line on a terminal, plain lines in a file."""
