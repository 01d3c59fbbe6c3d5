"""What the tests of multiprocessing run in processes of their own: importable, with nothing at the top."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry
from sqlalchemy import create_engine, text
from sqlalchemy.pool import QueuePool

from pool_exporter import instrument
from tests.laws import assert_laws


def use_a_pool(url: str, send: Callable[[Any], None]) -> None:
    """Make and use an instrumented pool; send what it counted, or what went wrong."""
    try:
        engine = create_engine(url, poolclass=QueuePool)
        pool = instrument(engine, registry=CollectorRegistry(), name="child")
        for _ in range(5):
            with engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        engine.dispose()
        now = pool.snapshot()
        assert_laws(now)
        send((now.checkouts, now.connects, now.statements, now.open))
    except BaseException as error:
        send(repr(error))
