"""Show the library at work: a small application, its database and a load that fills the pool."""
