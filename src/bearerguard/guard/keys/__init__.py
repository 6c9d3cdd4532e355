"""The keys of issuers: discovered, fetched, refreshed ahead, and until when they are valid."""
