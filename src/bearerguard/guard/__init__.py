"""May this request pass? The resource server's half, as values and flows."""
