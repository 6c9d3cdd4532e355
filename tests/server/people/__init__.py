"""Users, their login, their consent, and the pages they see."""
