"""What an API team configures, as values that are checked when they are made."""
