"""The commands that run and administer an authorization server."""
