"""Check what is taken for the application's frame, and that the search harms nobody."""

from __future__ import annotations

import asyncio
import calendar
import gc
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from types import FrameType, ModuleType
from typing import Any

import pytest
from greenlet import greenlet
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from pool_exporter import instrument, owner
from pool_exporter.capture.callers import attribution, frames
from pool_exporter.capture.callers.frames import MAX_NAME_LENGTH, MAX_SITES, Sites
from pool_exporter.capture.tap import Tap
from pool_exporter.catalogue import MAX_OWNERS, OTHER
from tests.capture.callers.applications import NOWHERE, Application, name_of
from tests.capture.callers.conftest import MakeApplication
from tests.capture.engines.databases import do

STANDARD = os.path.dirname(calendar.__file__)


def code_of(name: str | None, filename: str, source: str) -> dict[str, Any]:
    """Return the names that a source defines, as code of a module with a file."""
    namespace: dict[str, Any] = {} if name is None else {"__name__": name}
    exec(compile(source, filename, "exec"), namespace)
    return namespace


def frame_of(name: str | None, filename: str, function: str = "function") -> FrameType:
    """Return a frame of a function of a module."""
    made = code_of(name, filename, f"import sys\ndef {function}(): return sys._getframe()")
    frame: FrameType = made[function]()
    return frame


@pytest.fixture
def local_app(make: MakeApplication) -> Application:
    """An application on a file, without asyncio."""
    return make("pysqlite")


@pytest.fixture
def sites(monkeypatch: pytest.MonkeyPatch) -> list[Sites]:
    """What the pools that are instrumented from now on know of code."""
    made: list[Sites] = []

    class Recorded(Sites):
        def __init__(self, skip: tuple[str, ...] = ()) -> None:
            super().__init__(skip)
            made.append(self)

    monkeypatch.setattr(frames, "Sites", Recorded)
    return made


# --- whose code it is ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "filename"),
    [
        ("myapp.database", "/srv/myapp/database.py"),
        ("__main__", "/srv/main.py"),
        ("sqlalchemy_of_mine", "/srv/sqlalchemy_of_mine.py"),
        ("starlettes.web", "/srv/starlettes/web.py"),
        ("pool_exporter_lab.demo.web", "/srv/pool_exporter_lab/demo/web.py"),
        ("calendar", "/srv/calendar.py"),
        ("test.test_orders", "/srv/test/test_orders.py"),
        (None, "/srv/made.py"),
        (None, "json.py"),
        (None, "asyncio.events"),
        ("", "sqlalchemy.py"),
    ],
)
def test_code_of_the_application(name: str | None, filename: str) -> None:
    """Modules with names of their own are the application's, and those that only resemble others."""
    site = Sites().judge(frame_of(name, filename))
    assert (site.application, site.boundary) == (True, False)
    assert site.function == f"{name or filename}:function"


@pytest.mark.parametrize(
    ("name", "filename"),
    [
        ("sqlalchemy", "/site/sqlalchemy/__init__.py"),
        ("sqlalchemy.engine.base", "/site/sqlalchemy/engine/base.py"),
        ("pool_exporter.capture.seam", "/site/pool_exporter/capture/seam.py"),
        ("sqlmodel.orm.session", "/site/sqlmodel/orm/session.py"),
        ("calendar", f"{STANDARD}/calendar.py"),
        ("asyncio.tasks", f"{STANDARD}/asyncio/tasks.py"),
        ("runpy", "<frozen runpy>"),
        ("contextlib", "contextlib.py"),
    ],
)
def test_code_that_acquires_for_others(name: str, filename: str) -> None:
    """SQLAlchemy, this package, wrappers and the standard library are passed over."""
    site = Sites().judge(frame_of(name, filename))
    assert (site.application, site.boundary) == (False, False)


@pytest.mark.parametrize(
    "name", ["asyncio.events", "uvloop", "gevent.hub", "starlette.routing", "uvicorn.main"]
)
def test_code_that_runs_the_application(name: str) -> None:
    """Event loops, frameworks and servers end the search."""
    site = Sites().judge(frame_of(name, f"{STANDARD}/{name}.py"))
    assert (site.application, site.boundary) == (False, True)


def test_prefixes_are_of_whole_names() -> None:
    """`skip` is about modules and what is in them, not about modules that begin with the same letters."""
    sites = Sites(("my.db",))
    skipped = {
        name: sites.judge(frame_of(name, "/my.py")).application for name in ("my.db", "my.db.x", "my.dbx")
    }
    assert skipped == {"my.db": False, "my.db.x": False, "my.dbx": True}


def test_a_name_is_bounded() -> None:
    """A long name is cut, since it becomes a label value."""
    site = Sites().judge(frame_of("m" * 1000, "/m.py"))
    assert site.function == "m" * MAX_NAME_LENGTH


def test_a_name_that_is_no_text(local_app: Application) -> None:
    """A file whose name has bytes that are no text does not stop the metrics from being written."""
    registry = CollectorRegistry()
    engine = create_engine(local_app.engine.url)
    made = code_of(None, os.fsdecode(b"/srv/\xff.py"), "def acquires(engine): return engine.connect()")
    with instrument(engine, registry=registry) as pool, made["acquires"](engine):
        [held] = pool.held()
        assert held.owner == held.function == "/srv/?.py:acquires"
        assert 'owner="/srv/?.py:acquires"' in generate_latest(registry).decode()
    engine.dispose()


# --- where the search goes -----------------------------------------------------------------


def test_the_usual_frames_are_leapt_over(sites: list[Sites], make: MakeApplication) -> None:
    """On the usual way none of the frames between the search and `Engine.connect()` is looked at."""
    app = make("pysqlite")
    with app.engine.connect():
        pass
    [known] = sites
    assert Tap.acquired.__code__ not in {site.code for site in known.known.values()}
    connection = app.engine.raw_connection()
    assert Tap.acquired.__code__ in {site.code for site in known.known.values()}
    connection.close()


def test_a_greenlet_without_asyncio(local_app: Application) -> None:
    """A function that runs in a greenlet has what it acquires."""

    def acquires() -> Any:
        return local_app.engine.connect()  # acquires

    connection = greenlet(acquires).switch()
    local_app.assert_held_by(acquires)
    connection.close()


def test_a_greenlet_without_the_application(local_app: Application) -> None:
    """What a greenlet acquires that has no frame of its own belongs to whoever switched to it."""
    connection = greenlet(local_app.engine.connect).switch()  # acquires
    local_app.assert_held_by(test_a_greenlet_without_the_application)
    connection.close()


def test_a_hub_of_greenlets(local_app: Application) -> None:
    """A library's loop that switches to greenlets has nothing, nor whoever runs it."""
    hub = code_of("gevent.hub", "/site/gevent/hub.py", "def run(greenlet): return greenlet.switch()")
    connection = hub["run"](greenlet(local_app.engine.connect))
    local_app.assert_held_by(NOWHERE)
    connection.close()


async def test_a_greenlet_of_a_task(local_app: Application) -> None:
    """Greenlets of the application's own making are followed to the task that switched to them."""

    def switches() -> Any:
        return greenlet(local_app.engine.connect).switch()  # acquires

    connection = switches()
    local_app.assert_held_by(switches)
    connection.close()
    connection = greenlet(switches).switch()
    local_app.assert_held_by(switches)
    connection.close()


async def test_a_greenlet_within_run_sync(local_app: Application, make: MakeApplication) -> None:
    """The same where the task is in a greenlet of SQLAlchemy's."""
    app = make("aiosqlite")

    def switches(_: Any) -> Any:
        return greenlet(local_app.engine.connect).switch()  # acquires

    async with app.engine.connect() as connection:
        inner = await connection.run_sync(switches)
        local_app.assert_held_by(switches)
        inner.close()


# --- no harm -------------------------------------------------------------------------------


class Local:
    """Something that a frame keeps alive."""


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Let nothing go by the collector: what goes, goes since nobody refers to it."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("driver", ["asyncpg", "psycopg_async", "aiosqlite"])
async def test_no_frame_is_kept(driver: str, make: MakeApplication) -> None:
    """What the acquiring function knew goes when it returns, though its connection is held."""
    app = make(driver)
    seen: list[weakref.ref[Local]] = []

    async def acquires() -> Any:
        local = Local()
        seen.append(weakref.ref(local))
        return await app.engine.connect()

    connection = await acquires()
    assert app.held().function == name_of(acquires)
    assert seen[0]() is None
    await connection.close()


@pytest.mark.usefixtures("uncollected")
def test_no_frame_is_kept_without_asyncio(local_app: Application) -> None:
    """The same on a synchronous engine."""
    seen: list[weakref.ref[Local]] = []

    def acquires() -> Any:
        local = Local()
        seen.append(weakref.ref(local))
        return local_app.engine.connect()

    with acquires():
        assert local_app.held().function == name_of(acquires)
        assert seen[0]() is None


@pytest.mark.usefixtures("uncollected")
async def test_a_task_that_ended_is_not_kept(app: Application) -> None:
    """A task goes when it has ended, though its connection is still held; its name stays."""

    async def acquires() -> Any:
        return await app.engine.connect()

    task: asyncio.Task[Any] = asyncio.create_task(acquires(), name="short")
    connection = await task
    ended = weakref.ref(task)
    del task
    await asyncio.sleep(0)  # until then the event loop has it
    assert ended() is None
    assert (app.held().task_name, app.held().stack) == ("short", ())
    await connection.close()


@pytest.fixture
def lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every search for a frame fail."""

    def fails() -> frames.Found:
        raise RuntimeError("lost my way")

    monkeypatch.setattr(attribution, "frame_finder", lambda skip: fails)


@pytest.mark.usefixtures("lost")
@pytest.mark.parametrize("driver", ["asyncpg", "pysqlite"])
async def test_a_search_that_fails(
    driver: str, make: MakeApplication, caplog: pytest.LogCaptureFixture
) -> None:
    """It costs the attribution only: the use is counted, under an unknown owner, and so is the failure."""
    app = make(driver, faults=1)
    connection = await do(app.engine.connect)
    app.assert_held_by(NOWHERE, task=None)
    snapshot = app.pool.snapshot()
    assert (snapshot.uses, snapshot.checkouts, snapshot.telemetry_errors) == (1, 1, 1)
    assert snapshot.owner_connections == {"unknown": 1}
    assert "lost my way" in caplog.text
    await do(connection.close)


@pytest.mark.usefixtures("lost", "uncollected")
def test_a_search_that_fails_keeps_no_frame(make: MakeApplication) -> None:
    """Nor does the failure keep what the acquiring function knew."""
    app = make("pysqlite", faults=1)
    seen: list[weakref.ref[Local]] = []

    def acquires() -> Any:
        local = Local()
        seen.append(weakref.ref(local))
        return app.engine.connect()

    with acquires():
        assert seen[0]() is None


@pytest.mark.parametrize("there", [None, ModuleType("opentelemetry.trace")])
def test_opentelemetry_that_is_not_all_there(
    there: Any, local_app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where its import is forbidden, or under way in another thread, there is no trace."""
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", there)
    with local_app.engine.connect():  # acquires
        local_app.assert_held_by(test_opentelemetry_that_is_not_all_there)


# --- bounds ----------------------------------------------------------------------------------


def test_code_that_is_made_all_the_time(sites: list[Sites], make: MakeApplication) -> None:
    """20,000 pieces of code that acquire are each found, and most of them forgotten."""
    app = make("pysqlite")
    most = 0
    for number in range(2 * MAX_SITES):
        name = f"made_{number}"
        acquires = code_of("made", "<made>", f"def {name}(engine): return engine.connect()")[name]
        connection = acquires(app.engine)
        if number % 1000 == 0:
            assert app.held().function == f"made:{name}"
        connection.close()
        most = max(most, len(sites[0].known))
    assert most == MAX_SITES


def test_threads_that_fill_what_is_known(
    sites: list[Sites], make: MakeApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each finds its own function, while what is known is forgotten again and again."""
    monkeypatch.setattr(frames, "MAX_SITES", 3)
    app = make("pysqlite", poolclass=NullPool)
    wrong: list[Any] = []

    def work(thread: int) -> None:
        for number in range(300):
            name = f"made_{thread}_{number}"
            acquires = code_of("made", "<made>", f"def {name}(engine): return engine.connect()")[name]
            with acquires(app.engine):
                if f"made:{name}" not in [held.function for held in app.pool.held()]:
                    wrong.append(name)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("held_at_once", [1, 30])
def test_owners_without_end(held_at_once: int, make: MakeApplication) -> None:
    """Of 10,000 owners 20 are told apart, and nothing of the others is lost from the sums."""
    app = make("pysqlite", pool_size=held_at_once, max_overflow=0)
    held: deque[Any] = deque()
    for number in range(10_000):
        if len(held) == held_at_once:
            held.popleft().close()
        with owner(f"job {number}"):
            held.append(app.engine.connect())
    now = app.pool.snapshot()
    owners = {f"job {number}" for number in range(MAX_OWNERS)} | {OTHER}
    assert now.owner_use_seconds.keys() == now.owner_connections.keys() == now.owner_leaks.keys() == owners
    assert now.owner_connections[OTHER] == sum(now.owner_connections.values()) == now.uses == held_at_once
    assert sum(now.owner_use_seconds.values()) == pytest.approx(now.occupancy_seconds)
    assert now.owner_use_seconds[OTHER] == pytest.approx(now.occupancy_seconds, rel=0.5)
    # The record of a use knows its owner all the same.
    assert [one.owner for one in app.pool.held()] == [f"job {10_000 - n}" for n in range(held_at_once, 0, -1)]
    while held:
        held.popleft().close()
