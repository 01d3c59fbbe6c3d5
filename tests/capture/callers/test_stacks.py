"""Check that `task_stack` says where a task is, whatever it waits for and wherever it runs."""

from __future__ import annotations

import asyncio
import gc
import linecache
import re
import sys
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Any

import anyio
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from pool_exporter.capture.callers.stacks import MAX_ENTRIES, task_stack
from tests.capture.engines.databases import eventually
from tests.postgres import PostgresServer, running_server

HERE = __name__
WAIT = [f"{HERE}:wait", "asyncio.locks:wait"]
"""The innermost functions of whoever waits at a gate."""


class Gate:
    """A place to wait at, which says that somebody came."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    async def wait(self) -> None:
        """Wait until the gate is opened."""
        self.reached.set()
        await self.opened.wait()


@pytest.fixture
def gate() -> Gate:
    """A closed gate."""
    return Gate()


async def at(gate: Gate, coroutine: Coroutine[Any, Any, Any]) -> tuple[str, ...]:
    """Return the stack of a task that runs the coroutine until it waits at the gate."""
    task = asyncio.create_task(coroutine)
    await gate.reached.wait()
    stack = task_stack(task)
    gate.opened.set()
    await task
    return stack


def functions(stack: tuple[str, ...]) -> list[str]:
    """Return the `module:function` of each entry, without the classes and functions around it."""
    names = (re.fullmatch(r"(.+):(\S+) \(\S+:\d+\)", entry) for entry in stack)
    return [f"{name[1]}:{name[2].rpartition('.')[2]}" for name in names if name is not None]


def source(entry: str) -> str:
    """Return the line of this file that an entry points to."""
    found = re.search(r"\(attribution/test_stacks\.py:(\d+)\)$", entry)
    assert found is not None, entry
    return linecache.getline(__file__, int(found[1])).strip()


async def outer(gate: Gate) -> None:
    await middle(gate)  # outer's line


async def middle(gate: Gate) -> None:
    await asyncio.sleep(0)
    await gate.wait()  # middle's line


async def test_what_is_awaited_follows_who_awaits_it(gate: Gate) -> None:
    """The outermost coroutine comes first, each with the line where it waits."""
    stack = await at(gate, outer(gate))
    assert functions(stack) == [f"{HERE}:outer", f"{HERE}:middle", *WAIT]
    assert source(stack[0]).endswith("# outer's line")
    assert source(stack[1]).endswith("# middle's line")
    assert re.fullmatch(r"asyncio\.locks:(Event\.)?wait \(asyncio/locks\.py:\d+\)", stack[3])


async def test_a_task_in_a_sleep(gate: Gate) -> None:
    """A task that sleeps is in asyncio's sleep."""

    async def sleeps() -> None:
        gate.reached.set()
        await asyncio.sleep(3600)

    task = asyncio.create_task(sleeps())
    await gate.reached.wait()
    assert functions(task_stack(task)) == [f"{HERE}:sleeps", "asyncio.tasks:sleep"]
    task.cancel()
    await asyncio.wait([task])


async def test_a_task_in_a_lock(gate: Gate) -> None:
    """A task that waits for a lock is in its acquire()."""
    lock = asyncio.Lock()

    async def locks() -> None:
        gate.reached.set()
        async with lock:
            pass

    async with lock:
        task = asyncio.create_task(locks())
        await gate.reached.wait()
        stack = task_stack(task)
    await task
    assert functions(stack) == [f"{HERE}:locks", "asyncio.locks:__aenter__", "asyncio.locks:acquire"]
    assert source(stack[0]) == "async with lock:"


async def numbers(gate: Gate, *, wait_at: str = "start") -> AsyncGenerator[int, None]:
    try:
        if wait_at == "start":
            await gate.wait()
        yield 1
    finally:
        if wait_at == "end":
            await gate.wait()


async def doubles(gate: Gate) -> AsyncGenerator[int, None]:
    async for number in numbers(gate):
        yield 2 * number


async def iterates(gate: Gate) -> None:
    assert [number async for number in doubles(gate)] == [2]


async def loops(gate: Gate) -> None:
    async for number in doubles(gate):
        assert number == 2


async def asks_for_one(gate: Gate) -> None:
    async with aclosing(doubles(gate)) as generator:
        assert await anext(generator, None) == 2


async def sends(gate: Gate) -> None:
    generator = doubles(gate)
    assert await generator.asend(None) == 2
    await generator.aclose()


@pytest.mark.parametrize("coroutine", [loops, asks_for_one, sends])
async def test_a_task_in_an_async_generator(
    coroutine: Callable[[Gate], Coroutine[Any, Any, None]], gate: Gate
) -> None:
    """Generators that are iterated are followed, however they are asked for their next."""
    stack = await at(gate, coroutine(gate))
    assert functions(stack) == [
        f"{HERE}:{coroutine.__name__}",
        f"{HERE}:doubles",
        f"{HERE}:numbers",
        *WAIT,
    ]
    assert source(stack[2]) == "await gate.wait()"


async def test_a_task_in_an_async_comprehension(gate: Gate) -> None:
    """A comprehension is followed too, be it a function of its own or not."""
    names = functions(await at(gate, iterates(gate)))
    names = [name for name in names if not name.endswith(":<listcomp>")]
    assert names == [f"{HERE}:iterates", f"{HERE}:doubles", f"{HERE}:numbers", *WAIT]


async def closes(gate: Gate) -> None:
    generator = numbers(gate, wait_at="end")
    assert await anext(generator) == 1
    await generator.aclose()


async def throws(gate: Gate) -> None:
    generator = numbers(gate, wait_at="end")
    assert await anext(generator) == 1
    with pytest.raises(LookupError):
        await generator.athrow(LookupError())


@pytest.mark.parametrize("coroutine", [closes, throws])
async def test_a_task_in_the_end_of_an_async_generator(
    coroutine: Callable[[Gate], Coroutine[Any, Any, None]], gate: Gate
) -> None:
    """A generator that waits while it is closed is followed."""
    stack = await at(gate, coroutine(gate))
    assert functions(stack) == [f"{HERE}:{coroutine.__name__}", f"{HERE}:numbers", *WAIT]


@asynccontextmanager
async def manager(gate: Gate, wait_at: str) -> AsyncIterator[None]:
    if wait_at == "start":
        await gate.wait()
    yield
    if wait_at == "end":
        await gate.wait()


async def manages(gate: Gate, wait_at: str) -> None:
    async with manager(gate, wait_at):
        if wait_at == "body":
            await gate.wait()


@pytest.mark.parametrize(
    ("wait_at", "between"),
    [
        ("start", ["contextlib:__aenter__", f"{HERE}:manager"]),
        ("body", []),
        ("end", ["contextlib:__aexit__", f"{HERE}:manager"]),
    ],
)
async def test_a_task_in_a_context_manager(wait_at: str, between: list[str], gate: Gate) -> None:
    """A context manager made of a generator is on the stack while it enters and exits, not between."""
    assert functions(await at(gate, manages(gate, wait_at))) == [f"{HERE}:manages", *between, *WAIT]


class ByGenerator:
    """An awaitable whose `__await__` is a generator."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def __await__(self) -> Generator[Any, None, None]:
        yield from self.gate.wait().__await__()


class ByCoroutine(ByGenerator):
    """An awaitable whose `__await__` hands out a coroutine's."""

    def __await__(self) -> Generator[Any, None, None]:
        return middle(self.gate).__await__()


class Unfriendly(ByGenerator):
    """An awaitable whose iterator raises whatever attribute it is asked for."""

    def __await__(self) -> Any:
        return Unfriendly.Iterator(self.gate.wait().__await__())

    class Iterator:
        """The iterator of the awaitable."""

        def __init__(self, generator: Generator[Any, None, None]) -> None:
            self._generator = generator

        def __iter__(self) -> Unfriendly.Iterator:
            return self

        def __next__(self) -> Any:
            return next(self._generator)

        def __getattr__(self, name: str) -> Any:
            if name in ("send", "throw", "close"):
                raise AttributeError(name)
            raise RuntimeError(name)


@pytest.mark.parametrize(
    ("awaitable", "inside"),
    [
        (ByGenerator, [f"{HERE}:__await__", *WAIT]),
        (ByCoroutine, [f"{HERE}:middle", *WAIT]),
        (Unfriendly, []),
    ],
)
async def test_a_task_in_an_object_that_can_be_awaited(
    awaitable: Callable[[Gate], Awaitable[None]], inside: list[str], gate: Gate
) -> None:
    """What an object's `__await__` does is followed as far as it shows itself."""

    async def awaits() -> None:
        await awaitable(gate)

    assert functions(await at(gate, awaits())) == [f"{HERE}:awaits", *inside]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A PostgreSQL server that makes statements take their time."""
    with running_server() as server:
        yield server


async def executes(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await connection.execute(text("select pg_sleep(3600)"))


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_a_task_in_a_statement(driver: str, server: PostgresServer) -> None:
    """A task that waits for the database shows the application's line, and then the driver's."""
    engine = create_async_engine(f"postgresql+{driver}://{server.address}")
    task = asyncio.create_task(executes(engine))
    with server.observer() as observer:
        asleep = "from pg_stat_activity where wait_event = 'PgSleep'"
        await eventually(
            lambda: bool(observer.execute(f"select pid {asleep}").fetchall()), "the statement runs"
        )
        stack = task_stack(task)
        observer.execute(f"select pg_cancel_backend(pid) {asleep}")
    with pytest.raises(DBAPIError):
        await task
    await engine.dispose()
    application, execute, spawn, *rest = functions(stack)
    assert application == f"{HERE}:executes"
    assert source(stack[0]) == 'await connection.execute(text("select pg_sleep(3600)"))'
    assert execute == "sqlalchemy.ext.asyncio.engine:execute"
    assert spawn.startswith("sqlalchemy.util.")
    assert spawn.endswith(":greenlet_spawn")
    assert any(name.startswith(f"{driver}.") for name in rest)
    assert not any(name.startswith("sqlalchemy.engine") for name in rest)


@pytest.fixture
async def engine() -> AsyncIterator[AsyncEngine]:
    """An asynchronous engine whose database is no server."""
    engine = create_async_engine("sqlite+aiosqlite://")
    yield engine
    await engine.dispose()


def synchronous(connection: Any, waits: Callable[[], Coroutine[Any, Any, None]]) -> None:
    connection.connection.dbapi_connection.run_async(lambda _: waits())


async def runs_sync(engine: AsyncEngine, function: Callable[..., Any], *arguments: Any) -> None:
    async with engine.connect() as connection:
        await connection.run_sync(function, *arguments)


async def test_a_task_in_a_synchronous_function(gate: Gate, engine: AsyncEngine) -> None:
    """The application's function that run_sync() runs in a greenlet is on the stack, SQLAlchemy's are not."""
    names = functions(await at(gate, runs_sync(engine, synchronous, gate.wait)))
    assert names[0] == f"{HERE}:runs_sync"
    assert names[1] == "sqlalchemy.ext.asyncio.engine:run_sync"
    assert names[2].endswith(":greenlet_spawn")
    assert names[3:] == [f"{HERE}:synchronous", *WAIT]


def look(stacks: list[tuple[str, ...]], *held: object) -> None:
    stacks.append(task_stack(asyncio.current_task()))


async def test_the_current_task() -> None:
    """The current task's stack goes down to the function that asks, synchronous or not."""
    stacks: list[tuple[str, ...]] = []

    async def looks() -> None:
        look(stacks)

    await looks()
    await asyncio.create_task(looks())
    assert functions(stacks[0]) == [f"{HERE}:test_the_current_task", f"{HERE}:looks", f"{HERE}:look"]
    assert functions(stacks[1]) == [f"{HERE}:looks", f"{HERE}:look"]
    assert source(stacks[1][0]) == "look(stacks)"


async def test_the_current_task_in_a_greenlet(engine: AsyncEngine) -> None:
    """From within run_sync() the coroutines that wait for the greenlet are on the stack too."""
    stacks: list[tuple[str, ...]] = []
    await asyncio.create_task(runs_sync(engine, lambda connection: look(stacks)))
    names = functions(stacks[0])
    assert names[:2] == [f"{HERE}:runs_sync", "sqlalchemy.ext.asyncio.engine:run_sync"]
    assert names[2].endswith(":greenlet_spawn")
    assert names[3:] == [f"{HERE}:<lambda>", f"{HERE}:look"]


async def test_no_task_and_a_task_that_is_done() -> None:
    """Nothing is on the stack of a task that returned, failed or was cancelled."""

    async def fails() -> None:
        raise LookupError

    returned = asyncio.create_task(asyncio.sleep(0))
    failed = asyncio.create_task(fails())
    cancelled = asyncio.create_task(asyncio.sleep(3600))
    cancelled.cancel()
    await asyncio.wait([returned, failed, cancelled])
    assert isinstance(failed.exception(), LookupError)
    assert [task_stack(task) for task in (None, returned, failed, cancelled)] == [()] * 4


async def test_a_task_that_has_not_begun(gate: Gate) -> None:
    """A task that is still to begin is at the beginning of its coroutine."""
    task = asyncio.create_task(outer(gate))
    stack = task_stack(task)
    gate.opened.set()
    await task
    assert functions(stack) == [f"{HERE}:outer"]
    assert source(stack[0]) == "async def outer(gate: Gate) -> None:"


class Thread:
    """An event loop that runs in a thread of its own, with one task."""

    def __init__(self, function: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        begun = threading.Event()

        def begin() -> None:
            self.task = self.loop.create_task(function(*arguments))
            begun.set()

        self.loop.call_soon_threadsafe(begin)
        begun.wait()

    def settle(self) -> None:
        """Return when the loop has run what there was to run, so that its task waits."""
        for _ in range(2):
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self.loop).result()

    def end(self) -> None:
        """Wait for the task to end, and end the thread."""
        asyncio.run_coroutine_threadsafe(asyncio.wait([self.task]), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()
        self.task.result()


@contextmanager
def thread_of(
    function: Callable[..., Coroutine[Any, Any, None]], *arguments: Any, release: Callable[[], Any]
) -> Iterator[Thread]:
    """Run a task in a thread, and release it at the end."""
    thread = Thread(function, *arguments)
    try:
        yield thread
    finally:
        thread.loop.call_soon_threadsafe(release)
        release()
        thread.end()


async def waits_in_thread(gate: Gate) -> None:
    await gate.wait()


def test_a_task_that_waits_in_another_thread(gate: Gate) -> None:
    """A task of another thread's loop is followed like any other."""
    with thread_of(waits_in_thread, gate, release=gate.opened.set) as thread:
        thread.settle()
        stack = task_stack(thread.task)
    assert functions(stack) == [f"{HERE}:waits_in_thread", *WAIT]


class Blocker:
    """A function that blocks its thread."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.released = threading.Event()

    def block(self, *ignored: Any) -> None:
        """Wait until it is released, without the event loop."""
        self.entered.set()
        self.released.wait()


async def blocks(blocker: Blocker) -> None:
    blocker.block()


def test_a_task_that_blocks_another_thread() -> None:
    """A task that keeps its loop from running shows the synchronous call that does it."""
    blocker = Blocker()
    with thread_of(blocks, blocker, release=blocker.released.set) as thread:
        blocker.entered.wait()
        stack = task_stack(thread.task)
    assert functions(stack)[:2] == [f"{HERE}:blocks", f"{HERE}:block"]
    assert source(stack[0]) == "blocker.block()"


def test_a_task_that_blocks_another_thread_in_a_greenlet() -> None:
    """Of such a task in run_sync() no more is known than its own coroutine: a greenlet shows no way to it."""
    blocker = Blocker()

    async def runs() -> None:
        engine = create_async_engine("sqlite+aiosqlite://")
        await runs_sync(engine, blocker.block)
        await engine.dispose()

    with thread_of(runs, release=blocker.released.set) as thread:
        blocker.entered.wait()
        stack = task_stack(thread.task)
    assert functions(stack) == [f"{HERE}:runs"]
    assert source(stack[0]) == "await runs_sync(engine, blocker.block)"


async def descends(gate: Gate, depth: int) -> None:
    if depth == 0:
        await gate.wait()
    else:
        await descends(gate, depth - 1)


async def test_a_deep_recursion_that_waits(gate: Gate) -> None:
    """Of a deep stack the innermost entries are kept."""
    names = functions(await at(gate, descends(gate, 3 * MAX_ENTRIES)))
    assert names == [*[f"{HERE}:descends"] * (MAX_ENTRIES - 2), *WAIT]


async def test_a_deep_recursion_that_runs() -> None:
    """The same for synchronous functions of a task that runs."""
    stacks: list[tuple[str, ...]] = []

    def dives(depth: int) -> None:
        dives(depth - 1) if depth else look(stacks)

    dives(3 * MAX_ENTRIES)
    assert functions(stacks[0]) == [*[f"{HERE}:dives"] * (MAX_ENTRIES - 1), f"{HERE}:look"]


async def test_code_that_belongs_to_no_module(gate: Gate) -> None:
    """A coroutine function made by `exec` in a namespace without a name is named after its file."""
    namespace: dict[str, Any] = {}
    exec(compile("async def made(gate):\n    await gate.wait()", "a\\b\\made.txt", "exec"), namespace)
    del namespace["__builtins__"]
    stack = await at(gate, namespace["made"](gate))
    assert stack[0] == "a\\b\\made.txt:made (b/made.txt:2)"


class Thing:
    """Something that a frame keeps alive."""


@contextmanager
def no_collector() -> Iterator[None]:
    """Let things go by their reference counts alone."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def test_no_frame_is_kept(gate: Gate, engine: AsyncEngine) -> None:
    """When a coroutine is over its variables go at once, though its stack was taken, running and waiting."""
    things: list[weakref.ref[Thing]] = []

    async def keeps() -> None:
        thing = Thing()
        things.append(weakref.ref(thing))
        stacks: list[tuple[str, ...]] = []
        await runs_sync(engine, lambda connection: look(stacks, thing))
        look(stacks)
        await runs_sync(engine, synchronous, gate.wait)
        assert all(stacks)

    with no_collector():
        await at(gate, keeps())
        assert things[0]() is None


def test_nothing_is_kept_of_who_looks_at_another_thread() -> None:
    """Nor do the variables of a function stay that took the stack of a task of another thread."""
    blocker = Blocker()

    def looks(task: asyncio.Task[Any]) -> weakref.ref[Thing]:
        thing = Thing()
        assert task_stack(task)
        return weakref.ref(thing)

    with thread_of(blocks, blocker, release=blocker.released.set) as thread:
        blocker.entered.wait()
        with no_collector():
            assert looks(thread.task)() is None


@pytest.mark.parametrize("kind", ["anyio", "asyncio"])
async def test_the_tasks_of_a_task_group_come_after_the_one_that_opened_it(kind: str) -> None:
    """A task that waits beside its task group shows where the group's task is, as its innermost steps."""
    if kind == "asyncio" and sys.version_info < (3, 11):
        pytest.skip("task groups are new in Python 3.11")
    streaming, disconnected, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def stream() -> None:
        streaming.set()
        await go_on.wait()

    async def respond() -> None:
        if kind == "anyio":
            async with anyio.create_task_group() as group:
                group.start_soon(stream)
                await disconnected.wait()
        else:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(stream())
                await disconnected.wait()

    task = asyncio.create_task(respond())
    await streaming.wait()
    functions = [entry.partition(" (")[0].rpartition(":")[2].rpartition(".")[2] for entry in task_stack(task)]
    assert functions[0] == "respond"
    assert functions[-2:] == ["stream", "wait"]
    go_on.set()
    disconnected.set()
    await task
