"""Check where a task is by what it awaits."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Generator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from pool_exporter.capture.callers.stacks import task_stack
from tests.capture.callers.tasks import (
    HERE,
    WAIT,
    Gate,
    at,
    functions,
    look,
    middle,
    outer,
    runs_sync,
    source,
    synchronous,
)
from tests.capture.engines.databases import eventually
from tests.postgres import PostgresServer


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


async def executes(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await connection.execute(text("select pg_sleep(3600)"))


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_a_task_in_a_statement(driver: str, postgres: PostgresServer) -> None:
    """A task that waits for the database shows the application's line, and then the driver's."""
    engine = create_async_engine(f"postgresql+{driver}://{postgres.address}")
    task = asyncio.create_task(executes(engine))
    with postgres.observer() as observer:
        asleep = "from pg_stat_activity where wait_event = 'PgSleep' and query like '%3600%'"
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


async def test_a_task_in_a_synchronous_function(gate: Gate, engine: AsyncEngine) -> None:
    """The application's function that run_sync() runs in a greenlet is on the stack, SQLAlchemy's are not."""
    names = functions(await at(gate, runs_sync(engine, synchronous, gate.wait)))
    assert names[0] == f"{HERE}:runs_sync"
    assert names[1] == "sqlalchemy.ext.asyncio.engine:run_sync"
    assert names[2].endswith(":greenlet_spawn")
    assert names[3:] == [f"{HERE}:synchronous", *WAIT]


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
