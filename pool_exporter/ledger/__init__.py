"""One pool's books; knows nothing of SQLAlchemy."""
