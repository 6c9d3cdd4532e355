"""Access tokens, refresh tokens, the keys that sign them, and their revocation."""
