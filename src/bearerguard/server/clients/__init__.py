"""The clients of the server: their registration and their authentication."""
