"""Break a real application on purpose, and see which alerts a real Prometheus and Alertmanager send."""
