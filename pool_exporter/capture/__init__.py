"""The only room that knows SQLAlchemy's internals: what happens in a pool, told to its ledger."""
