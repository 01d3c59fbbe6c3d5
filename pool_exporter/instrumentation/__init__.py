"""Join the rooms: put pools under watch, name and export them."""
