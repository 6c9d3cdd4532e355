"""What is particular to each face and framework."""
