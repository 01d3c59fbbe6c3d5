"""Make the application of a status page, and serve it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from prometheus_client import CollectorRegistry

from pool_exporter.records import PoolStatus
from pool_exporter.serving.status.app import status_app
from tests.serving.asgi import running


@contextlib.contextmanager
def showing(source: Callable[[], Sequence[PoolStatus]], **options: Any) -> Iterator[str]:
    """Run the status page of these pools and give its URL."""
    with running(status_app(source, registry=CollectorRegistry(), **options)) as url:
        yield url


def page_of(*statuses: PoolStatus, **options: Any) -> Any:
    """Return the application with these pools, and a registry that has none."""
    return status_app(lambda: statuses, registry=CollectorRegistry(), **options)
