"""From a token to its principal: the cache of verified tokens, JWT validation, trusted issuers."""
