"""Requests and responses of the server's endpoints."""
