"""What callers notice while something is broken, and the figures of it."""
