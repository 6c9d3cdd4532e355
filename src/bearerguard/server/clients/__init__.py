"""The clients of the server: what is registered, and how they authenticate."""
