"""Join the process's pools with the status page. Not imported before somebody asks for the page."""

from __future__ import annotations

from prometheus_client import REGISTRY, CollectorRegistry

from pool_exporter.instrumentation.runtime import RUNTIME
from pool_exporter.records import PoolStatus
from pool_exporter.serving.metrics_app import ASGIApplication
from pool_exporter.serving.status import app as page


def _statuses() -> list[PoolStatus]:
    """Return everything that a status page shows, of every instrumented pool."""
    found = []
    for pool in RUNTIME.pools():
        try:
            found.append(pool._status())
        except Exception as error:
            pool._ledger.faults.report("status", error)
    return found


def status_app(
    *, registry: CollectorRegistry = REGISTRY, token: str | None = None, refresh_seconds: float = 5
) -> ASGIApplication:
    """Return an ASGI application with a page that shows who holds the connections of all pools.

    The page and, with `Accept: application/json`, the same as JSON at the root of where it is
    mounted; the metrics of `registry` at `/metrics`. The page refreshes itself every
    `refresh_seconds`. From the first call on the last ten minutes of each pool are kept for it.

    Without a `token` only clients on this machine are answered, and none that come through a
    proxy. With one (16 or more printable ASCII characters), whoever shows it as `Authorization:
    Bearer`, or as the password of HTTP Basic, and nobody else; over a network, use TLS.

    Raises `TypeError` or `ValueError` for an argument that cannot be right.
    """
    app = page.status_app(_statuses, registry=registry, token=token, refresh_seconds=refresh_seconds)
    RUNTIME.sampling = True
    RUNTIME.watch()
    return app
