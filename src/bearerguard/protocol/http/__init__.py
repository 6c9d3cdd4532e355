"""HTTP fields and documents of authentication, as pure functions (RFC 9110, RFC 6750)."""
