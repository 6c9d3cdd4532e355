"""Events that end tokens: security events (RFC 8417), of whom they speak, and logout tokens."""
