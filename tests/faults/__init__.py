"""Faults of what workers share, on real processes and a real Redis."""
