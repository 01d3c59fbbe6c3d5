"""Check where a task is that runs, waits in another thread, recurses, or leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from pool_exporter.capture.callers.stacks import MAX_ENTRIES, task_stack
from tests.capture.callers.tasks import (
    HERE,
    WAIT,
    Gate,
    at,
    functions,
    look,
    outer,
    runs_sync,
    source,
    synchronous,
)


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
