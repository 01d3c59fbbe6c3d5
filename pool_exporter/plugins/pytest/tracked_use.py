"""Keep what is known of one use that began during a test, and judge it when the test is over."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from pool_exporter.capture.record_probe import RecordProbe
from pool_exporter.capture.tap import Tap
from pool_exporter.instrumentation.instrumentation import Instrumentation
from pool_exporter.ledger.held import held_connection
from pool_exporter.ledger.probe import Probe
from pool_exporter.ledger.uses import Use
from pool_exporter.records import HeldConnection

TEST_RUNNERS = ("_run_tests_and_fixtures", "_asyncioLoopRunner")
"""Coroutines that run one test after the other in one task: anyio's, and unittest's on Python 3.10."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """Hold one leak of a test. `kind` is open, collected or loop_closed."""

    kind: str
    held: HeldConnection
    """As it was at the end of the test, when it was collected, or just before its loop was closed."""
    running: bool
    """Whether a statement runs; a busy connection without one has a stream open."""
    background: bool
    """Whether the task that acquired it goes on, and is not one that runs tests."""
    orphaned: bool
    """Whether the pool that it came from has been disposed of."""


@dataclass(slots=True)
class Note:
    """One use that began during a test, and the loop of an asynchronous one.

    Whether it goes on is asked of SQLAlchemy's own proxy: the instrumentation may be taken off an
    engine at any time.
    """

    use: Use
    tap: Tap
    loop: asyncio.AbstractEventLoop | None
    at_loop_end: Leak | None = None
    """What it was just before its loop was closed, where it was in progress then."""

    @classmethod
    def of(cls, tap: Tap, use: Use) -> Note:
        """Return the note of a use that begins now, in this thread."""
        loop = None
        if tap.engines()[0].dialect.is_async:  # an engine that is being acquired from is alive
            with suppress(RuntimeError):
                loop = asyncio.get_running_loop()
        return cls(use, tap, loop)

    @property
    def in_progress(self) -> bool:
        """Tell whether somebody still has the connection, from its pool."""
        fairy = self._fairy()
        return fairy is not None and bool(fairy.is_valid) and not fairy.is_detached

    @property
    def loop_open(self) -> bool:
        """Tell whether the use belongs to an event loop that is not closed."""
        return self.loop is not None and not self.loop.is_closed()

    def leak(self, kind: str) -> Leak:
        """Return the leak that a use in progress is now."""
        ledger = self.tap.ledger
        ledger.settle()
        return self._leak(kind, ledger.clock(), RecordProbe())

    def open_leak(self) -> Leak:
        """Return the leak that a use is which is still in progress when its test is over."""
        if self.at_loop_end is not None:  # since when nothing could be done with it
            return replace(self.at_loop_end, kind="open")
        return self.leak("open")

    def collected_leak(self, now: float) -> Leak:
        """Return the leak that a use is which the collector ended; `now` is when, by its ledger's clock."""
        return self._leak("collected", now, Probe())

    def _leak(self, kind: str, now: float, probe: Probe) -> Leak:
        instrumentation = self.tap.owner
        name = instrumentation.name if isinstance(instrumentation, Instrumentation) else "unknown"
        entry = self.use.entry
        return Leak(
            kind=kind,
            held=held_connection(name, entry, self.use, now, probe, exempt=False),
            running=bool(entry.running),
            background=self._in_background(),
            orphaned=self.use.pool_key not in {id(engine.pool) for engine in self.tap.engines()},
        )

    def _in_background(self) -> bool:
        task = self.use.task_ref() if self.use.task_ref is not None else None
        if task is None or task.done():
            return False
        return getattr(task.get_coro(), "__name__", None) not in TEST_RUNNERS

    def _fairy(self) -> Any:
        reference = getattr(self.use, "fairy_ref", None)  # not set where its acquire failed at the last
        return None if reference is None else reference()
