"""The keys of issuers: discovered, fetched, cached, refreshed ahead."""
