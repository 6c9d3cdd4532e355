"""What the parts `server_tokens` and `server_grants` need: servers, a load generator, flows."""
