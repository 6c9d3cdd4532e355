"""The grants of the token endpoint, one a file, their registry, and pushed requests."""
