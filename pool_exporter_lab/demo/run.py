"""Wire the demo: database, application, server, load and view; take all of it down again."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TextIO

from prometheus_client import CollectorRegistry
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from pool_exporter import Instrumentation, instrument, metrics_app, status_app
from pool_exporter_lab.demo.application import application
from pool_exporter_lab.demo.collector import collecting
from pool_exporter_lab.demo.database import Database, running
from pool_exporter_lab.demo.logbook import Logbook, logbook
from pool_exporter_lab.demo.moment import Moment
from pool_exporter_lab.demo.report import JsonReport
from pool_exporter_lab.demo.restarter import restarting
from pool_exporter_lab.demo.scenarios import POLICY, SCENARIOS, Scenario
from pool_exporter_lab.demo.signals import until_signal
from pool_exporter_lab.demo.state import Shop
from pool_exporter_lab.demo.tables import prepare
from pool_exporter_lab.demo.view import LiveView
from pool_exporter_lab.demo.web import HOST, listen, served
from pool_exporter_lab.demo.workload import workload

POOL_SIZE = 5
MAX_OVERFLOW = 5
POOL_TIMEOUT_SECONDS = 1.0

_TICK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Options:
    """Hold what the command line says; `seconds` is None to run until a signal."""

    scenario: str
    database: str
    port: int
    seconds: float | None
    as_json: bool
    seed: int
    pool: str


class Display(Protocol):
    """Say what every way of showing the demo does with the pool's moments."""

    def starting(self) -> None:
        """Take note that there is nothing to show yet."""

    def begin(self, moment: Moment) -> None:
        """Take what was before the load."""

    def show(self, moment: Moment) -> None:
        """Take what is now; called once a second."""

    def end(self, moment: Moment) -> None:
        """Take what was when the time was up, the load still running."""


def run(options: Options, output: TextIO) -> int:
    """Run the demo and return the exit code: 0, or 128 + the signal that ended it.

    Nothing is left behind either way. Raises `DemoError` if it cannot run.
    """
    with listen(options.port) as listener:
        return asyncio.run(until_signal(_demo(options, listener, output)))


async def _demo(options: Options, listener: socket.socket, output: TextIO) -> None:
    """Run everything, innermost last; the stack takes it down in the opposite order."""
    port = listener.getsockname()[1]
    address = f"http://{HOST}:{port}/metrics"
    display = _display(options, output, address)
    display.starting()
    async with contextlib.AsyncExitStack() as stack:
        scenario = SCENARIOS[options.scenario]
        book = stack.enter_context(logbook())
        found = await stack.enter_async_context(running(options.database))
        engine = _engine(found, scenario, stack)
        registry = CollectorRegistry()
        shop = Shop(engine)
        stack.push_async_callback(shop.close)
        pool = stack.enter_context(instrument(engine, name=options.pool, registry=registry, leaks=POLICY))
        await prepare(engine)
        app = application(
            shop, metrics_app(registry), status_app(registry=registry, refresh_seconds=1), book.timed_out
        )
        parts = [await stack.enter_async_context(served(app, listener))]
        if scenario.collects:
            parts.append(await stack.enter_async_context(collecting()))
        if scenario.restarts and found.server is not None:
            parts.append(await stack.enter_async_context(restarting(found.server)))
        display.begin(_moment(pool, book))
        parts += await stack.enter_async_context(workload(scenario.crowds, HOST, port, options.seed))
        async for _ in _seconds(options.seconds):
            _raise_failure(parts)
            display.show(_moment(pool, book))
        display.end(_moment(pool, book))


def _display(options: Options, output: TextIO, address: str) -> Display:
    if options.as_json:
        return JsonReport(
            output, scenario=options.scenario, database=options.database, address=address, policy=POLICY
        )
    return LiveView(output, title=_title(options, address), address=address)


def _moment(pool: Instrumentation, book: Logbook) -> Moment:
    """Return what there is to show now. The snapshot comes first, since it judges the uses."""
    return Moment(
        snapshot=pool.snapshot(),
        held=tuple(pool.held()),
        leaks=book.leaks(),
        events=book.events(),
        messages=book.messages(),
        timeout_note=book.timeout_note,
    )


def _engine(found: Database, scenario: Scenario, stack: contextlib.AsyncExitStack) -> AsyncEngine:
    """Return an engine on a database; `stack` disposes of it."""
    engine = create_async_engine(
        found.url,
        connect_args={"server_settings": dict(scenario.settings)} if scenario.settings else {},
        poolclass=AsyncAdaptedQueuePool,
        pool_size=POOL_SIZE,
        max_overflow=MAX_OVERFLOW,
        pool_timeout=POOL_TIMEOUT_SECONDS,
        pool_pre_ping=True,
    )
    stack.push_async_callback(engine.dispose)
    return engine


def _title(options: Options, address: str) -> tuple[str, str, str]:
    return (
        f"pool_exporter demo: {options.scenario} on {options.database}, pool_size {POOL_SIZE}, "
        f"max_overflow {MAX_OVERFLOW}",
        f"overdue: idle in transaction {POLICY.idle_in_transaction_seconds:g} s, "
        f"idle {POLICY.idle_seconds:g} s, one statement {POLICY.busy_seconds:g} s",
        f"who holds the connections: {address.removesuffix('metrics')}pools/",
    )


async def _seconds(limit: float | None) -> AsyncIterator[None]:
    """Yield once a second and once at the limit, both in seconds; for ever if it is None."""
    clock = asyncio.get_running_loop().time
    now = start = clock()
    end = math.inf if limit is None else start + limit
    while now < end:
        ticks = math.floor((now - start) / _TICK_SECONDS + 0.5) + 1  # a timer may fire a little early
        await asyncio.sleep(max(0.0, min(start + ticks * _TICK_SECONDS, end) - now))
        yield
        now = clock()


def _raise_failure(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Raise what ended a task that ought to run as long as the demo."""
    for task in tasks:
        if task.done():
            task.result()
            raise RuntimeError(f"a part of the demo ended by itself: {task!r}")
