"""What is particular to each adapter and framework."""
