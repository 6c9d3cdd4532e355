"""The endpoints that clients call, one a file."""
