"""What users do in the browser: log in, give consent, log out."""
