"""The authorization server of an API that has no identity provider."""
