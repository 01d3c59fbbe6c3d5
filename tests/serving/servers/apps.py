"""Applications that tests put behind servers: each worker serves its own pools, or wants one port for them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import REGISTRY, generate_latest
from sqlalchemy import create_engine
from sqlalchemy.pool import QueuePool

from pool_exporter import instrument, metrics_app, start_server

engine = create_engine("sqlite://", poolclass=QueuePool)
instrument(engine, name="orders")

if "METRICS_PORT" in os.environ:
    server = start_server(int(os.environ["METRICS_PORT"]))

_metrics = metrics_app()


async def asgi(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    """Use the pool, and serve what this worker knows."""
    if scope["type"] == "http":
        engine.connect().close()
    await _metrics(scope, receive, send)


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Do the same for a synchronous server."""
    engine.connect().close()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [generate_latest(REGISTRY)]
