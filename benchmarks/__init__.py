"""Benchmarks: what bearerguard costs, beside the floor and beside what users would pick instead.

Every figure is a ratio between things measured in turn in one process. Nothing here is a
test: `instructions` alone is checked, and it counts instead of timing.
"""
