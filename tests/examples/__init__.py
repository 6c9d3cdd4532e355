"""The examples as their readers start them."""
