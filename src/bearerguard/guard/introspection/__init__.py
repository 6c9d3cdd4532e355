"""Asking issuers about opaque tokens (RFC 7662)."""
