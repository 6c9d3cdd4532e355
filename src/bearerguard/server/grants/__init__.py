"""The grants of the token endpoint, one a file, and the registry that others are added to."""
