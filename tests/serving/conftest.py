"""Give the tests of metrics_app() a registry with pools."""

from __future__ import annotations

from tests.serving.metrics import registry

__all__ = ["registry"]
