"""Token introspection (RFC 7662): the endpoint, its responses and their cache."""
