"""The pytest plugin that finds leaked connections."""
