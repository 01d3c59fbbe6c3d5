"""Check buckets, detail and the other options of instrument()."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from sqlalchemy import Engine, text

from pool_exporter import instrument, snapshots
from tests.instrumentation.conftest import is_untouched, pools_in


@pytest.mark.parametrize(
    ("buckets", "error", "message"),
    [
        ([0.1, 1], TypeError, "buckets=[0.1, 1]: expected a mapping of a histogram's name"),
        ({"wait_seconds": [1, 0.1]}, ValueError, "buckets['wait_seconds']=[1, 0.1]: not strictly ascending"),
        ({"wait_seconds": [1, 1]}, ValueError, "buckets['wait_seconds']=[1, 1]: not strictly ascending"),
        ({"wait_seconds": [-1, 1]}, ValueError, "buckets['wait_seconds']=[-1, 1]: a bound is negative"),
        ({"wait_seconds": [float("nan")]}, ValueError, "buckets['wait_seconds']=[nan]: a bound is negative"),
        ({"wait_seconds": []}, ValueError, "buckets['wait_seconds']=[]: no finite bound"),
        ({"wait_seconds": [float("inf")]}, ValueError, "buckets['wait_seconds']=[inf]: no finite bound"),
        ({"wait_seconds": ["fast"]}, TypeError, "buckets['wait_seconds']=['fast']: not a list of numbers"),
        ({"wait_seconds": 5}, TypeError, "buckets['wait_seconds']=5: not a list of numbers"),
        ({"wait_seconds": None}, TypeError, "buckets['wait_seconds']=None: not a list of numbers"),
        (
            {"waits": [1]},
            ValueError,
            "buckets['waits']: no histogram of that name; there are connect_seconds,",
        ),
        ({"waits_total": [1]}, ValueError, "buckets['waits_total']: no histogram of that name"),
    ],
)
def test_buckets_that_cannot_be_are_refused(
    buckets: Any, error: type[Exception], message: str, engine: Engine, registry: CollectorRegistry
) -> None:
    """The error names the histogram and the value and says what would be right; nothing is attached."""
    with pytest.raises(error, match=re.escape(message)):
        instrument(engine, buckets=buckets, registry=registry)
    assert is_untouched(engine)


def test_buckets_shape_the_histogram(engine: Engine, registry: CollectorRegistry) -> None:
    """Bounds given by name, with or without the prefix, are the ones exported."""
    instrument(
        engine,
        registry=registry,
        buckets={"wait_seconds": [0.5, 2, float("inf")], "sqlalchemy_pool_use_seconds": (7,)},
    )
    lines = generate_latest(registry).decode().splitlines()
    found = [line.partition('le="')[2].partition('"')[0] for line in lines if "wait_seconds_bucket" in line]
    assert found == ["0.5", "2.0", "+Inf"]
    found = [line.partition('le="')[2].partition('"')[0] for line in lines if "use_seconds_bucket" in line]
    assert found == ["7.0", "+Inf"]


def test_one_registry_has_one_set_of_buckets(
    make: Callable[..., Engine], registry: CollectorRegistry
) -> None:
    """Histograms of one name cannot have two sets of bounds; the same set, or none, is fine."""
    first = instrument(make(), name="a", registry=registry, buckets={"wait_seconds": [1, 2]})
    assert (
        instrument(make(), name="b", registry=registry).snapshot().wait_seconds
        == first.snapshot().wait_seconds
    )
    instrument(make(), name="c", registry=registry, buckets={"sqlalchemy_pool_wait_seconds": (1.0, 2.0)})
    other = make()
    with pytest.raises(
        ValueError, match="buckets: this registry's pools have other buckets already; give every"
    ):
        instrument(other, name="d", registry=registry, buckets={"wait_seconds": [1, 3]})
    assert is_untouched(other)
    assert pools_in(registry) == ["a", "b", "c"]


def test_one_registry_has_one_detail(make: Callable[..., Engine], registry: CollectorRegistry) -> None:
    """The level of detail is the registry's too."""
    instrument(make(), name="a", registry=registry, detail="basic")
    other = make()
    with pytest.raises(
        ValueError, match="detail='full': this registry's pools are exported with detail='basic'"
    ):
        instrument(other, name="b", registry=registry)
    assert is_untouched(other)


@pytest.mark.parametrize(
    ("option", "value", "error", "message"),
    [
        ("detail", "everything", ValueError, "detail='everything': expected 'full' or 'basic'"),
        ("detail", None, ValueError, "detail=None: expected 'full' or 'basic'"),
        ("detail", ["full"], ValueError, "detail=['full']: expected 'full' or 'basic'"),
        ("statements", 1, TypeError, "statements=1: expected True or False"),
        ("statements", None, TypeError, "statements=None: expected True or False"),
        (
            "registry",
            "default",
            TypeError,
            "registry='default': expected a prometheus_client CollectorRegistry",
        ),
        ("registry", CollectorRegistry, TypeError, "expected a prometheus_client CollectorRegistry"),
    ],
)
def test_options_that_cannot_be_are_refused(
    option: str, value: Any, error: type[Exception], message: str, engine: Engine
) -> None:
    """The error names the argument, the value and what would be right; nothing is attached."""
    with pytest.raises(error, match=re.escape(message)):
        instrument(engine, **{"registry": CollectorRegistry(), option: value})
    assert is_untouched(engine)


@pytest.mark.parametrize(("option", "statements"), [(True, 2), (False, 0)])
def test_statements_are_counted_unless_switched_off(
    option: bool, statements: int, engine: Engine, registry: CollectorRegistry
) -> None:
    """`statements=False` leaves the dialect's execution alone, and the counter at 0."""
    instrumentation = instrument(engine, registry=registry, statements=option)
    assert ("do_execute" in vars(engine.dialect)) is option
    with engine.connect() as connection:
        connection.execute(text("select 1"))
        connection.execute(text("select 2"))
    assert instrumentation.snapshot().statements == statements


def test_without_a_registry_only_snapshots_show_the_pool(engine: Engine) -> None:
    """`registry=None` exports nothing, and the pool is counted all the same."""
    instrumentation = instrument(engine, name="unseen", registry=None)
    engine.connect().close()
    assert instrumentation.snapshot().checkouts == 1
    assert [snapshot.checkouts for snapshot in snapshots() if snapshot.name == "unseen"] == [1]


def test_snapshots_show_every_instrumented_pool(make: Callable[..., Engine]) -> None:
    """`snapshots()` gives the pools of all registries, and none that was uninstrumented."""
    kept = [instrument(make(), name=f"kept-{n}", registry=CollectorRegistry()) for n in range(3)]
    kept[1].uninstrument()
    found = [snapshot.name for snapshot in snapshots() if snapshot.name.startswith("kept-")]
    assert sorted(found) == ["kept-0", "kept-2"]


@pytest.mark.parametrize(
    "taken",
    [
        lambda registry: Counter("sqlalchemy_pool_checkouts", "Mine.", ["pool"], registry=registry),
        lambda registry: Gauge("sqlalchemy_pool_wait_seconds_count", "Mine.", registry=registry),
        lambda registry: Gauge("sqlalchemy_pool_size", "Mine.", registry=registry),
    ],
)
@pytest.mark.parametrize("detail", ["full", "basic"])
def test_a_name_in_the_registry_is_an_error_with_a_cure(
    taken: Callable[[CollectorRegistry], Any], detail: Any, engine: Engine, registry: CollectorRegistry
) -> None:
    """A registry that has a metric of ours refuses; the error says what to do; nothing is attached."""
    foreign = taken(registry)
    with pytest.raises(
        ValueError, match=r"^registry: it already has a metric that pool_exporter would export"
    ) as no:
        instrument(engine, registry=registry, detail=detail)
    assert "unregister the other one, or pass registry=CollectorRegistry()" in str(no.value)
    assert "sqlalchemy_pool_" in str(no.value)
    assert is_untouched(engine)
    registry.unregister(foreign)
    instrument(engine, name="cured", registry=registry, detail=detail)
    assert pools_in(registry) == ["cured"]


@pytest.mark.parametrize("detail", ["full", "basic"])
def test_a_metric_of_ours_clashes_with_a_later_one_at_once(
    detail: Any, engine: Engine, registry: CollectorRegistry
) -> None:
    """Whoever adds a metric of our name after us learns it then, and not at the first scrape."""
    instrument(engine, registry=registry, detail=detail)
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        Counter("sqlalchemy_pool_stranded_waits", "Mine.", registry=registry)
