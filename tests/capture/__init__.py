"""Tests of what is seen of SQLAlchemy."""
