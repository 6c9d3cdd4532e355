"""What users have allowed: lists and ends it, for the users on their own page and for operators."""
