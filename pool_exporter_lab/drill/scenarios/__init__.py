"""Hold the scenarios, a file for each kind of trouble."""
