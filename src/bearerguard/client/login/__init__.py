"""The grants that ask a person: authorization code with PKCE, and the device grant."""
