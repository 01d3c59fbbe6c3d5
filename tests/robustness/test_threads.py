"""Test that the numbers stay exact, and the application undisturbed, under many threads."""

from __future__ import annotations

import asyncio
import gc
import random
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import QueuePool

from pool_exporter import PoolSnapshot, instrument
from pool_exporter.capture import attach
from pool_exporter.capture.marks import ATTRIBUTE
from tests.laws import assert_laws
from tests.postgres import PostgresServer
from tests.servers import until

THREADS = 16
ROUNDS = 25

pytestmark = pytest.mark.filterwarnings(  # of what a disposed pool leaves to the collector
    "ignore:unclosed database:ResourceWarning", "ignore:.*was deleted while still open:ResourceWarning"
)


@pytest.fixture(params=["psycopg", "sqlite"])
def engine(request: pytest.FixtureRequest, postgres: PostgresServer, tmp_path: Path) -> Iterator[Engine]:
    """A synchronous engine with fewer connections than there are threads."""
    if request.param == "sqlite":
        url, options = f"sqlite:///{tmp_path}/database", {"connect_args": {"check_same_thread": False}}
    else:
        url = f"postgresql+psycopg://{postgres.address}"
        options = {"connect_args": {"application_name": f"threads-{tmp_path.name}"}}
    engine = create_engine(url, poolclass=QueuePool, pool_size=6, max_overflow=4, pool_timeout=30, **options)
    yield engine
    engine.dispose()


@pytest.fixture(autouse=True)
def _frequent_interruptions() -> Iterator[None]:
    """Let threads, and the collector, interrupt each other all the time."""
    interval, threshold = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(1e-5)
    gc.set_threshold(50, 10, 100)
    yield
    sys.setswitchinterval(interval)
    gc.set_threshold(*threshold)


class Crowd:
    """Threads that run at once, and what they raised."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self.over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._beside: list[threading.Thread] = []

    def work(self, function: Callable[..., None], *arguments: Any) -> None:
        """Run a function to its end."""
        self._threads.append(threading.Thread(target=self._run, args=(function, *arguments)))

    def beside(self, function: Callable[[], None]) -> None:
        """Run a function again and again until the work is done."""

        def again() -> None:
            while not self.over.is_set():
                function()

        self._beside.append(threading.Thread(target=self._run, args=(again,)))

    def _run(self, function: Callable[..., None], *arguments: Any) -> None:
        try:
            function(*arguments)
        except BaseException as error:
            self.errors.append(error)

    def run(self) -> None:
        """Run everything; raise what any thread raised."""
        for thread in [*self._beside, *self._threads]:
            thread.start()
        for thread in self._threads:
            thread.join(60)
        self.over.set()
        for thread in self._beside:
            thread.join(60)
        assert not any(thread.is_alive() for thread in [*self._threads, *self._beside])
        if self.errors:
            raise self.errors[0]


def use(engine: Engine, done: Counter[str], seed: int) -> None:
    """Use a pool in every way that a thread can, and count what was done."""
    chance = random.Random(seed)
    for _ in range(ROUNDS):
        connection = engine.connect()
        done["checkouts"] += 1
        way = chance.choice(("close", "close", "execute", "invalidate", "soft", "detach", "leak"))
        if way == "execute":
            connection.execute(text("select 1"))
            done["statements"] += 1
        elif way == "invalidate":
            connection.invalidate()
        elif way == "soft":
            connection.connection.invalidate(soft=True)
        elif way == "detach":
            connection.detach()
        if way == "leak":
            del connection
        else:
            connection.close()
        done[way] += 1


def total(counters: list[Counter[str]]) -> Counter[str]:
    """Return the sum of what the threads did."""
    return sum(counters, Counter())


def test_the_totals_are_exact_while_others_scrape(engine: Engine) -> None:
    """Whatever the threads do, each snapshot keeps the laws and the totals are what they did."""
    registry = CollectorRegistry()
    instrumentation = instrument(engine, registry=registry)
    done = [Counter[str]() for _ in range(THREADS)]
    crowd = Crowd()
    for number, counter in enumerate(done):
        crowd.work(use, engine, counter, number)
    last: list[PoolSnapshot | None] = [None]

    def look() -> None:
        now = instrumentation.snapshot()
        assert_laws(now, last[0])
        last[0] = now

    crowd.beside(look)
    crowd.beside(lambda: generate_latest(registry))
    crowd.run()
    gc.collect()
    now, did = instrumentation.snapshot(), total(done)
    assert_laws(now, last[0])
    assert (now.uses, now.pending, now.acquires, now.timeouts) == (0, 0, did["checkouts"], 0)
    assert now.checkouts == did["checkouts"] == THREADS * ROUNDS
    assert now.detaches == did["detach"]
    assert now.leaks_collected == did["leak"]
    assert now.checkins == did["checkouts"] - did["detach"] - did["leak"]
    assert now.statements == did["statements"]
    assert now.invalidations == {"hard": did["invalidate"], "soft": did["soft"]}
    assert now.unaccounted_slots == 0
    pool: Any = engine.pool
    assert pool.checkedout() == 0


def test_other_threads_may_instrument_and_uninstrument_under_load(engine: Engine) -> None:
    """The application sees nothing of it, no slot is lost, and afterwards the numbers are right again."""
    crowd = Crowd()
    done = [Counter[str]() for _ in range(THREADS)]
    for number, counter in enumerate(done):
        crowd.work(use, engine, counter, number)
    turns = Counter[str]()

    def turn() -> None:
        with instrument(engine, registry=None) as instrumentation:
            instrumentation.snapshot()
            turns["around"] += 1

    crowd.beside(turn)
    crowd.run()
    gc.collect()
    assert turns["around"] > 1
    pool: Any = engine.pool
    assert pool.checkedout() == 0
    with instrument(engine, registry=None) as instrumentation:
        before = instrumentation.snapshot()
        assert_laws(before)
        assert (before.uses, before.pending) == (0, 0)
        with engine.connect(), engine.connect():
            now = instrumentation.snapshot()
            assert (now.used, now.checkouts) == (2, before.checkouts + 2)
        now = instrumentation.snapshot()
        assert_laws(now, before)
        assert (now.uses, now.checkins, now.unaccounted_slots) == (0, before.checkins + 2, 0)


def test_an_engine_instrumented_under_load_accuses_nobody(engine: Engine) -> None:
    """However threads acquire and return while their pool is attached, hardly one of their uses is taken for a leak."""
    crowd = Crowd()
    for _ in range(6):
        crowd.beside(lambda: engine.connect().close())
    found: list[PoolSnapshot] = []

    def turns() -> None:
        for _ in range(30):
            with instrument(engine, registry=None) as pool:
                pool.snapshot()
            found.append(pool.snapshot())

    crowd.work(turns)
    crowd.run()
    assert len(found) == 30
    assert sum(one.telemetry_errors for one in found) == 0
    # A switch between two of our own instructions may still hide a return, once in some thousand uses.
    assert sum(one.leaks_collected > 0 for one in found) <= 2


def test_a_hundred_snapshots_at_once(engine: Engine) -> None:
    """A hundred threads that ask at once all get the same truth."""
    instrumentation = instrument(engine, registry=None)
    seen: list[PoolSnapshot] = []
    together = threading.Barrier(100)

    def look() -> None:
        together.wait(30)
        seen.append(instrumentation.snapshot())

    with engine.connect():
        crowd = Crowd()
        for _ in range(100):
            crowd.work(look)
        crowd.run()
    assert len(seen) == 100
    for snapshot in seen:
        assert_laws(snapshot)
        assert (snapshot.used, snapshot.checkouts, snapshot.checkins) == (1, 1, 0)


def test_timeouts_of_many_threads_are_each_counted(engine: Engine) -> None:
    """Each thread that gets SQLAlchemy's timeout is one of `timeouts`, and queued before."""
    engine.pool._timeout = 0.05  # type: ignore[attr-defined]
    instrumentation = instrument(engine, registry=None)
    held = [engine.connect() for _ in range(10)]

    def fail() -> None:
        with pytest.raises(PoolTimeoutError):
            engine.connect()

    crowd = Crowd()
    for _ in range(THREADS):
        crowd.work(fail)
    crowd.run()
    now = instrumentation.snapshot()
    for connection in held:
        connection.close()
    assert_laws(now)
    assert (now.timeouts, now.waits, now.acquires, now.pending) == (THREADS, THREADS, THREADS + 10, 0)
    assert now.queue_seconds is not None
    assert now.queue_seconds >= THREADS * 0.05


def test_a_scrape_during_a_dispose(engine: Engine) -> None:
    """Snapshots in the midst of disposes, in use and not, keep the laws; nothing is lost of it."""
    instrumentation = instrument(engine, registry=None)
    crowd = Crowd()
    done = [Counter[str]() for _ in range(4)]
    for number, counter in enumerate(done):
        crowd.work(use, engine, counter, number)

    def dispose() -> None:
        for _ in range(20):
            engine.dispose()

    crowd.work(dispose)
    crowd.beside(lambda: assert_laws(instrumentation.snapshot()))
    crowd.run()
    engine.dispose()
    gc.collect()
    now = instrumentation.snapshot()
    assert_laws(now)
    assert (now.uses, now.open, now.pending) == (0, 0, 0)
    assert now.checkouts == total(done)["checkouts"]


@pytest.mark.filterwarnings("ignore:.*garbage collector is trying:sqlalchemy.exc.SAWarning")
def test_two_loops_in_two_threads(postgres: PostgresServer) -> None:
    """Two event loops with an engine each, in two threads, are counted each for itself."""
    engines = [create_async_engine(f"postgresql+asyncpg://{postgres.address}", pool_size=3) for _ in range(2)]
    instrumentations = [
        instrument(engine, registry=None, name=f"loop {n}") for n, engine in enumerate(engines)
    ]

    async def work(engine: Any, rounds: int) -> None:
        async def one() -> None:
            async with engine.connect() as connection:
                await connection.execute(text("select 1"))

        await asyncio.gather(*(one() for _ in range(rounds)))
        await engine.dispose()

    crowd = Crowd()
    crowd.work(lambda: asyncio.run(work(engines[0], 20)))
    crowd.work(lambda: asyncio.run(work(engines[1], 30)))
    crowd.beside(lambda: [assert_laws(one.snapshot()) for one in instrumentations] and None)
    crowd.run()
    for instrumentation, rounds in zip(instrumentations, (20, 30), strict=True):
        now = instrumentation.snapshot()
        assert_laws(now)
        assert (now.checkouts, now.checkins, now.statements, now.open) == (rounds, rounds, rounds, 0)


def test_backends_go_with_their_leaks(postgres: PostgresServer) -> None:
    """What is open is what the database sees, after threads have leaked, detached and invalidated."""
    name = "backends"
    engine = create_engine(
        f"postgresql+psycopg://{postgres.address}", pool_size=3, connect_args={"application_name": name}
    )
    instrumentation = instrument(engine, registry=None)
    crowd = Crowd()
    for number in range(8):
        crowd.work(use, engine, Counter[str](), number)
    crowd.run()
    gc.collect()
    until(lambda: instrumentation.snapshot().open == len(postgres.backends(name)), "open is what is there")
    engine.dispose()


def test_a_detach_within_a_detach(engine: Engine) -> None:
    """A record that is used and detached again before the event of its first detach counts both."""
    depth = 0

    def again(connection: Any, record: Any) -> None:
        nonlocal depth
        depth += 1
        if depth == 1:
            inner = engine.connect()
            inner.detach()
            inner.close()
            engine.connect().close()

    event.listen(engine, "detach", again)  # ours is called after it
    instrumentation = instrument(engine, registry=None)
    outer = engine.connect()
    outer.detach()
    outer.close()
    now = instrumentation.snapshot()
    assert_laws(now)
    assert (depth, now.checkouts, now.detaches, now.checkins, now.uses) == (2, 3, 2, 1, 0)
    assert sum(now.closes.values()) == 0


def test_a_connect_while_another_thread_instruments(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that connects in the middle of instrument() does not attach to the pool a second time."""
    original = attach._acquires_in_progress

    def meanwhile(pool: Any) -> bool:
        monkeypatch.undo()
        thread = threading.Thread(target=lambda: engine.connect().close())
        thread.start()
        thread.join(30)
        return original(pool)

    monkeypatch.setattr(attach, "_acquires_in_progress", meanwhile)
    instrumentation = instrument(engine, registry=None)
    before = instrumentation.snapshot()
    assert_laws(before)
    with engine.connect(), engine.connect():
        now = instrumentation.snapshot()
        assert_laws(now, before)
        assert (now.open, now.uses, now.connects - before.connects) == (2, 2, 1)
    pool: Any = engine.pool
    assert not hasattr(getattr(pool._invoke_creator, ATTRIBUTE), ATTRIBUTE)  # wrapped once


def test_two_threads_that_instrument_one_engine_get_one_instrumentation(engine: Engine) -> None:
    """However many threads call `instrument()` at once, the pool is followed once."""
    together, made = threading.Barrier(THREADS), []

    def begin() -> None:
        together.wait(30)
        made.append(instrument(engine, registry=None))

    crowd = Crowd()
    for _ in range(THREADS):
        crowd.work(begin)
    crowd.run()
    assert len(made) == THREADS
    assert len(set(map(id, made))) == 1
