"""Engines and a registry for the tests of instrument()."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import QueuePool


@pytest.fixture
def registry() -> CollectorRegistry:
    """A registry of the test's own."""
    return CollectorRegistry()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Engine]]:
    """Make sync engines on a file of the test's own, which are all disposed at the end."""
    made: list[Engine] = []

    def make_engine(**options: Any) -> Engine:
        options.setdefault("poolclass", QueuePool)
        engine = create_engine(f"sqlite:///{tmp_path}/app.db", **options)
        made.append(engine)
        return engine

    yield make_engine
    for engine in made:
        engine.dispose()


@pytest.fixture
def engine(make: Callable[..., Engine]) -> Engine:
    """One engine on a file."""
    return make()


def is_untouched(engine: Engine) -> bool:
    """Tell whether nothing of this library is on an engine, its pool and its dialect."""
    pool: Any = engine.pool
    marked = [thing for thing in (pool, engine.dialect, pool._pool) if "_pool_exporter" in vars(thing)]
    wrapped = [name for name in vars(engine.dialect) if name.startswith("do_")]
    return type(pool) is QueuePool and not marked and not wrapped


def pools_in(registry: CollectorRegistry) -> list[str]:
    """Return the `pool` labels that a scrape shows, in their order."""
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return [
        sample.labels["pool"]
        for family in families
        for sample in family.samples
        if sample.name == "sqlalchemy_pool_acquires_total"
    ]
