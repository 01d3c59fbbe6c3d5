"""Run one light check now and then in a thread of its own, so that an unscraped process reports too."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

PAUSE_AFTER_FAILURE_SECONDS = 60.0

logger = logging.getLogger("pool_exporter")


class BackgroundThread:
    """Call `check` in one daemon thread until it returns None; else it returns the seconds to the next.

    The thread holds nothing of what it checks while it waits. It is gone while nothing is to be
    checked, and over a fork.
    """

    def __init__(self, check: Callable[[], float | None]) -> None:
        self._check = check
        self._lock = threading.Lock()  # guards _thread, and that there is one at most
        self._thread: threading.Thread | None = None
        # Putting into it is safe anywhere, where the collector interrupts a put of its own too.
        self._wake: SimpleQueue[bool] = SimpleQueue()

    def start(self) -> None:
        """Begin to check, unless it is done already; then check soon."""
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                self._wake.put(True)
                return
            self._wake = SimpleQueue()
            thread = threading.Thread(target=self._run, args=(self._wake,), name="pool_exporter", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # no more threads, or the interpreter is about to exit
                logger.warning(
                    "pool_exporter cannot start the thread that looks for overdue uses (%s); "
                    "they are looked for at scrapes only",
                    error,
                )
            else:
                self._thread = thread

    def wake(self) -> None:
        """Check soon."""
        self._wake.put(True)

    def stop(self) -> None:
        """End the thread and wait for it, a second at most."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            self._wake.put(False)
            thread.join(1.0)

    def after_fork(self) -> None:
        """Forget a thread that did not survive the fork."""
        self._lock = threading.Lock()
        self._thread = None
        self._wake = SimpleQueue()

    def _run(self, wake: SimpleQueue[bool]) -> None:
        pause: float | None = 0.0
        while pause is not None:
            if not _sleep(wake, pause):
                return
            pause = self._checked()
            if pause is None and not self._ended(wake):
                pause = 0.0

    def _checked(self) -> float | None:
        try:
            return self._check()
        except Exception:  # its parts keep their own faults; the thread must go on
            logger.exception("pool_exporter failed to check its pools")
            return PAUSE_AFTER_FAILURE_SECONDS

    def _ended(self, wake: SimpleQueue[bool]) -> bool:
        """Give up the place as the one thread; False where somebody has just asked for it again."""
        with self._lock:
            if not wake.empty():
                return False
            if self._thread is threading.current_thread():
                self._thread = None
            return True


def _sleep(wake: SimpleQueue[bool], seconds: float) -> bool:
    """Wait until it is time or somebody wakes; False where the thread is to end."""
    try:
        go_on = wake.get(timeout=seconds)
        while go_on:
            go_on = wake.get_nowait()
    except Empty:
        return True
    return False
