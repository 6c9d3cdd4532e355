"""What people do: sign in, give consent, sign out."""
