"""What the `BearerAuth` of every HTTP library shares."""
