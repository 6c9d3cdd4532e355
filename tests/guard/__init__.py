"""The guard's parts."""
