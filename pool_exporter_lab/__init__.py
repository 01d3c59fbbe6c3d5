"""Programs that show pool_exporter at work: the demo and the fire drills."""
