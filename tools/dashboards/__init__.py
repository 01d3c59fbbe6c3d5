"""Generate the Grafana dashboards: `python -m dashboards.generate` writes them, `--check` compares."""
