"""Watch every pool while a test runs, and say which connections the test has leaked."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import inf
from typing import Any

import pytest
from sqlalchemy.exc import SAWarning

from pool_exporter.capture.tap import Tap
from pool_exporter.ledger.leak_policy import LeakPolicy
from pool_exporter.ledger.uses import Use
from pool_exporter.plugins.pytest.engines import Engines
from pool_exporter.plugins.pytest.loop_end import LoopEnds
from pool_exporter.plugins.pytest.messages import sentence
from pool_exporter.plugins.pytest.tracked_use import Leak, Note


class Watch:
    """The pytest plugin of one run, from the first test that asks for it.

    A use belongs to the test during which it began, whatever thread or task that was in, unless a
    fixture of a wider scope was being set up then. `exempt` are patterns of owners and functions
    that may hold on.
    """

    def __init__(self, exempt: tuple[str, ...]) -> None:
        self._policy = LeakPolicy(inf, inf, inf, inf, exempt)
        self._notes: list[Note] = []  # appended to by any thread
        self._collected: list[tuple[Use, float]] = []  # likewise, and by the collector
        self._noting = False
        self._engines = Engines(self._begun, lambda use, now: self._collected.append((use, now)))
        self._loop_ends = LoopEnds(self._around_loop_end)
        self._engines.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
        """Note nothing while a fixture of a wider scope is set up, that of a coroutine too."""
        if fixturedef.scope == "function":
            return (yield)
        noting, self._noting = self._noting, False
        try:
            return (yield)
        finally:
            self._noting = noting

    def pytest_unconfigure(self) -> None:
        """Leave the process as it would be without the plugin."""
        self._loop_ends.stop()
        self._engines.stop()

    def begin(self) -> None:
        """Begin a test: the uses from now on are its own."""
        self._notes.clear()
        self._collected.clear()
        self._loop_ends.start()
        self._noting = True

    def end(self) -> list[str]:
        """End a test; return a sentence for each connection that it leaked, which stays as it is."""
        self._noting = False
        notes, self._notes = self._notes, []
        held = {id(note): note.open_leak() for note in notes if note.in_progress}
        if held:  # else there is nothing for the collector to find
            _collect_quietly()
        for note in notes:
            note.tap.ledger.settle()
        # By the reference to the proxy: the application may have instrumented the engine meanwhile,
        # whose ledger then knows the same use as another.
        collected = {id(use.fairy_ref): now for use, now in self._collected}
        leaks = []
        for note in notes:
            leak = _judged(note, held.get(id(note)), collected)
            if leak is not None and not self._is_exempt(note):
                leaks.append(leak)
        self._collected.clear()
        self._warn_of_failure()
        return [sentence(leak) for leak in leaks]

    def _begun(self, tap: Tap, use: Use) -> None:
        if self._noting:
            self._notes.append(Note.of(tap, use))
            self._loop_ends.start()

    def _is_exempt(self, note: Note) -> bool:
        return self._policy.exempts(note.use) or note.tap.ledger.leaks.is_exempt(note.use)

    @contextmanager
    def _around_loop_end(self) -> Iterator[None]:
        """Remember what was in progress in a loop that is closed: the loop's end cancels its tasks."""
        try:
            before = [
                (note, note.leak("loop_closed"))
                for note in self._notes
                if note.loop_open and note.in_progress
            ]
        except Exception as error:  # the loop is to be closed all the same
            before, self._engines.failure = [], error
        try:
            yield
        finally:
            for note, leak in before:
                if not note.loop_open:
                    note.at_loop_end = leak

    def _warn_of_failure(self) -> None:
        failure, self._engines.failure = self._engines.failure, None
        if failure is not None:
            warnings.warn(
                f"no_pool_leaks could not watch an engine, whose leaks it has not seen: {failure!r}",
                pytest.PytestWarning,
                stacklevel=2,
            )


def _judged(note: Note, held: Leak | None, collected: dict[int, float]) -> Leak | None:
    """Return what a use is, by what it was before garbage was collected if it was in progress then."""
    if held is not None:
        return held if note.in_progress else replace(held, kind="collected")
    ended = collected.get(id(getattr(note.use, "fairy_ref", None)))
    return note.at_loop_end if ended is None else note.collected_leak(ended)


def _collect_quietly() -> None:
    """Collect garbage, without the warnings of a connection that is in it: the test's failure says more."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SAWarning)
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
