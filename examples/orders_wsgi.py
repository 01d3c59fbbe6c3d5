"""The same as orders.py for synchronous workers, such as gunicorn's own.

/metrics is what an application has already that follows prometheus_client's documentation: a
`MultiProcessCollector`, which finds the pools among everything else.
"""

import os
from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.multiprocess import MultiProcessCollector
from sqlalchemy import create_engine, text

from pool_exporter import instrument, owner

engine = create_engine(
    os.environ.get("DATABASE_URL", "postgresql+psycopg://localhost/orders"), pool_size=1, max_overflow=0
)
instrument(engine, name="orders")


def metrics(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Serve the metrics of all workers."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    answer: Iterable[bytes] = make_wsgi_app(registry)(environ, start_response)
    return answer


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Write down one order for each POST; say which worker did it."""
    if environ["PATH_INFO"] == "/metrics":
        return metrics(environ, start_response)
    with owner("POST /orders"), engine.begin() as connection:
        connection.execute(text("INSERT INTO orders (worker) VALUES (:worker)"), {"worker": os.getpid()})
    start_response("200 OK", [("Content-Type", "application/json")])
    return [b'{"worker": %d}' % os.getpid()]
