"""The commands that log in, keep tokens and call APIs."""
