"""Logins at other issuers: what an operator allows, and what goes over HTTP. Knows no pages."""
