"""The store of the authorization server, in SQL: schema, migrations, queries and pruning.

A stolen database lets nobody call an API: codes, refresh tokens, opaque access tokens and client
secrets are keyed digests, and private keys are sealed.
"""
