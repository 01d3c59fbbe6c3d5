"""Every engine of the process, existing and yet to be made, and everything undone after."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import URL, Engine, create_engine, engine_from_config
from sqlalchemy.engine import CreateEnginePlugin
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import QueuePool

from pool_exporter import instrument, instrument_all
from pool_exporter.capture.attach import active_tap
from pool_exporter.capture.new_engines import existing_engines
from pool_exporter.instrumentation.instrument_all import _CURRENT
from tests.laws import assert_laws


@pytest.fixture
def registry() -> Iterator[CollectorRegistry]:
    yield CollectorRegistry()
    while _CURRENT:
        _CURRENT[0].uninstrument()


def made(number: int = 0) -> Engine:
    return create_engine("sqlite://", poolclass=QueuePool, pool_logging_name=f"pool-{number}")


def is_instrumented(engine: Engine) -> bool:
    return active_tap(engine) is not None


def names(registry: CollectorRegistry) -> set[str]:
    return {
        sample.labels["pool"]
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "sqlalchemy_pool_processes"
    }


def test_engines_before_and_after_are_covered(registry: CollectorRegistry) -> None:
    """Whether an engine was there, or is made by any function of SQLAlchemy's, it is instrumented."""
    before, sync_before = create_async_engine("sqlite+aiosqlite://"), made(1)
    instrument_all(registry=registry)
    after = create_async_engine("sqlite+aiosqlite://")
    others = [made(2), engine_from_config({"sqlalchemy.url": "sqlite://"})]
    for engine in (before.sync_engine, sync_before, after.sync_engine, *others):
        assert is_instrumented(engine)
    assert {"pool-1", "pool-2"} <= names(registry)


async def test_a_new_engine_counts_from_its_first_connection(registry: CollectorRegistry) -> None:
    """Dialect initialisation is over when its time to connect is taken, as with instrument()."""
    everything = instrument_all(registry=registry)
    engine = create_async_engine("sqlite+aiosqlite://")
    async with engine.connect():
        (pool,) = [
            one
            for one in everything.instrumentations
            if one._attachment is not None and engine.sync_engine in one._attachment.tap.engines()
        ]
        now = pool.snapshot()
        assert_laws(now)
        assert (now.acquires, now.checkouts, now.connects, now.used) == (1, 1, 1, 1)
        assert now.connect_seconds is not None
        assert now.connect_seconds.count == 1
        assert now.mode == "full"
    await engine.dispose()


def test_it_undoes_cleanly(registry: CollectorRegistry) -> None:
    """Engines, those made later and SQLAlchemy's own class are as they were."""
    original = URL.__dict__["_instantiate_plugins"]
    first = made()
    pool_class = type(first.pool)
    with instrument_all(registry=registry):
        second = made()
        assert URL.__dict__["_instantiate_plugins"] is not original
    assert URL.__dict__["_instantiate_plugins"] is original
    assert type(first.pool) is type(second.pool) is pool_class
    assert not any(map(is_instrumented, (first, second, made())))
    assert names(registry) == set()


def test_what_was_instrumented_by_itself_stays(registry: CollectorRegistry) -> None:
    """An engine that the application instruments is as it says, before and after, and after the end."""
    before, after, same = made(), made(), made()
    own = CollectorRegistry()
    first = instrument(before, name="first", registry=own)
    with instrument_all(registry=registry):
        second = instrument(after, name="second", registry=own)
        third = instrument(same, registry=registry)
        assert names(own) == {"first", "second"}
        assert not {"first", "second"} & names(registry)
    for engine in (before, after, same):
        assert is_instrumented(engine)
    for pool in (first, second, third):
        pool.uninstrument()


def test_a_group_of_all(registry: CollectorRegistry) -> None:
    """With a group, all of them are one pool."""
    everything = instrument_all(registry=registry, group="all")
    engines = [made(number) for number in range(3)]
    for engine in engines:
        engine.connect().close()
    assert names(registry) == {"all"}
    assert registry.get_sample_value("sqlalchemy_pool_checkouts_total", {"pool": "all"}) == 3
    everything.uninstrument()
    everything.uninstrument()
    assert names(registry) == set()


def test_an_application_s_own_plugins_go_on(registry: CollectorRegistry) -> None:
    """A wrapper that came after ours keeps working when ours is taken back."""
    everything = instrument_all(registry=registry)
    ours = URL.__dict__["_instantiate_plugins"]
    told = []

    class Plugin(CreateEnginePlugin):
        def __init__(self) -> None:
            pass

        def engine_created(self, engine: Engine) -> None:
            told.append(engine)

    def theirs(self: URL, kwargs: object) -> object:
        url, plugins, rest = ours(self, kwargs)
        return url, [*plugins, Plugin()], rest

    URL._instantiate_plugins = theirs  # type: ignore[method-assign,assignment]  # as another library would
    try:
        assert is_instrumented(made())
        everything.uninstrument()
        engine = made()
        assert not is_instrumented(engine)
        assert len(told) == 2
    finally:
        URL._instantiate_plugins = ours  # type: ignore[method-assign]  # ours ended, and calls SQLAlchemy's


def test_a_second_call(registry: CollectorRegistry) -> None:
    """The same again is the same; something else is an error that says so."""
    everything = instrument_all(registry=registry)
    assert instrument_all(registry=registry) is everything
    with pytest.raises(
        ValueError, match="statements=False: all engines are instrumented already, with statements=True"
    ):
        instrument_all(registry=registry, statements=False)


@pytest.mark.parametrize(
    "options", [{"leaks": 3}, {"group": ""}, {"detail": "some"}, {"registry": "default"}]
)
def test_bad_options_are_said_at_once(options: dict[str, object]) -> None:
    """Before any engine is touched, and nothing is left behind."""
    original = URL.__dict__["_instantiate_plugins"]
    with pytest.raises((TypeError, ValueError), match=next(iter(options))):
        instrument_all(**options)  # type: ignore[arg-type]  # what is tested
    assert URL.__dict__["_instantiate_plugins"] is original


def test_an_engine_that_cannot_be_taken_in_is_left_out(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """create_engine() works whatever goes wrong with us, and the log says what did."""
    instrument_all(registry=registry)

    def broken(*_: object, **__: object) -> object:
        raise RuntimeError("out of order")

    monkeypatch.setattr("pool_exporter.instrumentation.instrument_all.instrument_engine", broken)
    engine = made()
    engine.connect().close()
    assert "an engine on sqlite is not instrumented with all others: out of order" in caplog.text


def test_proxies_are_not_asked_for_their_class() -> None:
    """Looking for engines makes no lazy object do what it stands for."""

    class Lazy:
        @property
        def __class__(self) -> type:  # type: ignore[override]  # as lazy objects do
            raise AssertionError("evaluated")

    lazy = Lazy()
    assert existing_engines() is not None
    del lazy


def test_engines_made_by_many_threads(registry: CollectorRegistry) -> None:
    """Each has a name of its own, and is instrumented once."""
    instrument_all(registry=registry)
    engines: list[Engine] = []

    def make() -> None:
        for number in range(20):
            engines.append(made(1000 + number))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(engines) == 160
    assert all(map(is_instrumented, engines))
    assert len([name for name in names(registry) if name.startswith("pool-10")]) == 160


def test_switched_off_it_touches_nothing() -> None:
    """With POOL_EXPORTER_DISABLED=1 SQLAlchemy is left as it is."""
    program = (
        "from sqlalchemy import URL, create_engine; before = URL.__dict__['_instantiate_plugins']\n"
        "from pool_exporter import instrument_all, snapshots\n"
        "with instrument_all(): create_engine('sqlite://'); print(URL.__dict__['_instantiate_plugins'] is before, snapshots())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={"POOL_EXPORTER_DISABLED": "1"},
    )
    assert done.stdout.split() == ["True", "[]"]


def test_an_explicit_call_goes_before_an_implicit_one(registry: CollectorRegistry) -> None:
    """Also where what it asks for are the defaults."""
    instrument_all(registry=registry, group="all", statements=False)
    engine = made()
    with instrument(engine, registry=registry) as pool:
        engine.connect().close()
        assert pool.name.startswith("pool-0")
        assert pool.snapshot().statements is not None
