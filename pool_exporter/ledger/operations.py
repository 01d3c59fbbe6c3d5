"""Let one thread at a time change a state, and let nobody wait long for it."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable
from types import CodeType
from typing import Any, ClassVar, NamedTuple

from pool_exporter.ledger.uses import Use
from pool_exporter.support.faults import Faults

PATIENCE_SECONDS = 0.25
"""How long an operation waits for another thread's, which takes microseconds, before it is left to that one."""


class Operation(NamedTuple):
    """What was left to be done."""

    function: Callable[..., None]
    arguments: tuple[Any, ...]


class Deferring:
    """Run operations one at a time; where waiting might never end, leave them to the lock's holder.

    A lock that is waited for would deadlock where the garbage collector runs one operation in
    the middle of another, in the same thread; and where in the middle of one the collector runs
    what waits for a lock of the application, whose holder waits for ours. Operations that were
    left are run in their order before any later one. On the hot path uses are only noted: to count
    many at a time costs a fraction. What is read outside of the lock (the uses of a
    connection, say) does not know of them yet.

    Readers wait for the lock, but not for their own thread. `_holders` are the functions that
    take the lock, by which a thread is recognised that has it.
    """

    _holders: ClassVar[frozenset[CodeType]] = frozenset()

    def __init__(self) -> None:
        self.faults = Faults()
        self._lock = threading.Lock()  # guards the state of the subclass
        self._notes: deque[Operation | Use] = deque()  # what was left, in its order
        self._note = self._notes.append  # atomic
        self._operations = 0  # how many were run, uses that were noted aside

    def _unlock_after_fork(self) -> None:
        """Forget a lock, and what was left to its holder, of threads that did not survive."""
        self.faults.after_fork()
        self._lock = threading.Lock()
        self._notes.clear()

    def _take(self, patience_seconds: float = -1.0) -> bool:
        """Take the lock to read, for a function of `_holders`; False where this thread has it already.

        So it is where the collector, a signal handler or a log handler asks in the middle of an
        operation. To look for that in the stack costs nothing on the hot path. Who is asked in
        the application's own course must bring a `patience_seconds`: it may hold what a finalizer
        in the lock's holder waits for. False too where that was not long enough.
        """
        if self._lock.acquire(False):
            return True
        return not self._interrupted() and self._lock.acquire(timeout=patience_seconds)

    def _wait(self) -> bool:
        """Wait for another thread's operation, for a function of `_holders`; False if it is of no use."""
        return not self._interrupted() and self._lock.acquire(timeout=PATIENCE_SECONDS)

    def _interrupted(self) -> bool:
        frame = sys._getframe(2).f_back  # above the function that takes the lock
        while frame is not None:
            if frame.f_code in self._holders and frame.f_locals.get("self") is self:
                return True
            frame = frame.f_back
        return False

    def _do(self, operation: Callable[..., None], *arguments: Any) -> None:
        """Run an operation under the lock, or leave it to whoever holds the lock for too long."""
        if self._lock.acquire(False) or self._wait():
            try:
                if self._notes:
                    self._drain()
                self._operations += 1
                operation(*arguments)
            except Exception as error:
                self.faults.report(f"ledger.{operation.__name__}", error)
            finally:
                self._lock.release()
            if self._notes:
                self._settle()
        else:
            self._defer(operation, *arguments)

    def _defer(self, operation: Callable[..., None], *arguments: Any) -> None:
        self._note(Operation(operation, arguments))
        self._settle()

    def _settle(self) -> None:
        # Whoever released the lock between a failed attempt and its append has not seen the append.
        while self._notes and self._lock.acquire(False):
            try:
                self._drain()
            finally:
                self._lock.release()

    def _drain(self) -> None:
        notes = self._notes
        while notes:
            note = notes.popleft()
            try:
                if type(note) is Use:
                    self._count_uses(note)
                else:
                    self._operations += 1
                    note.function(*note.arguments)  # type: ignore[union-attr]  # what is no use
            except Exception as error:
                what = "use" if isinstance(note, Use) else note.function.__name__
                self.faults.report(f"ledger.{what}", error)
                self._failed(note)

    def _count_uses(self, use: Use) -> None:
        """Count a use that was noted, and those that were noted next; overridden."""

    def _failed(self, note: Operation | Use) -> None:
        """Do what must be done even if it failed to count a note; overridden."""
