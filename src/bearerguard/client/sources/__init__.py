"""Token sources: the grants that need no person."""
