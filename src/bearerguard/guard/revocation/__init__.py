"""Revocation: tokens refused before they expire, in this process and in all that share a store."""
