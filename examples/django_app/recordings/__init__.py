"""The recordings API in Django."""
