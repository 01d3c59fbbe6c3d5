"""Every row of SQLAlchemy's truth table as a test against a real database."""
