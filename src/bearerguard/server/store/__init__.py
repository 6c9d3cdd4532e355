"""The store of the authorization server, in SQL: schema, migrations, queries and pruning.

A stolen database gives no access to an API: codes, refresh tokens, opaque access tokens and client
secrets are stored as keyed digests, and private keys are sealed.
"""
