"""Signed JSON: JWS, JWK and JWT as pure functions (RFC 7515, 7517, 7518, 7519)."""
