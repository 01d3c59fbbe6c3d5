"""Serve /metrics: inside an ASGI application, or from a thread of its own."""

from pool_exporter.serving.metrics_app import metrics_app
from pool_exporter.serving.server import MetricsServer, start_server

__all__ = ["MetricsServer", "metrics_app", "start_server"]
