"""The engines of a database, SQLite and PostgreSQL, behind one interface."""
