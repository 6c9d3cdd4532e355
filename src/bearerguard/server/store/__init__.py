"""What the authorization server remembers, in SQL: its schema, migrations and queries.

Nothing that would let a thief call an API stands in it: codes, refresh tokens, opaque access
tokens and client secrets are keyed digests, private keys are sealed.
"""
