"""The client: tokens that refresh themselves, kept safely, for whoever calls an API."""
