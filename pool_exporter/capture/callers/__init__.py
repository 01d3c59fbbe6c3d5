"""Who acquires connections."""
