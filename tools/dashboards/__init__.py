"""The generator of the Grafana dashboards, with Grafana's Foundation SDK."""
