"""Help for every room: the environment, this library's own failures, text for people."""
