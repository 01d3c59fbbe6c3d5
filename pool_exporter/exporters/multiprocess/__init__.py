"""Pools of several processes in one scrape, by prometheus_client's multi-process mode."""
