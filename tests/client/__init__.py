"""Of the client: its storages, its sources of tokens, its libraries."""
