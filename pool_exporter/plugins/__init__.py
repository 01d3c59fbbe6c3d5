"""Hook into other people's programs: a pytest plugin by which connection leaks fail tests."""
