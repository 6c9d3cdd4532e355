"""The keys of issuers: discovery, fetching, refreshing ahead, and validity."""
