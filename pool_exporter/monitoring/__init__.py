"""Prometheus rules and Grafana dashboards, made from the catalogue."""
