"""Keep this library's own failures away from the application: count them, log each kind once."""

from __future__ import annotations

import logging
import threading
import traceback

logger = logging.getLogger("pool_exporter")


class Faults:
    """Count the failures inside this library for one pool.

    `count` is cumulative. A kind is the place and the exception's class; each is logged once,
    with its traceback as text, at WARNING.
    """

    __slots__ = ("_kinds", "_lock", "count")

    def __init__(self) -> None:
        self.count = 0
        self._kinds: set[tuple[str, str]] = set()
        # Guards nothing else than count and _kinds; re-entrant, since a log handler or the
        # garbage collector may bring us back here.
        self._lock = threading.RLock()

    def report(self, place: str, error: BaseException) -> None:
        """Count a failure at `place`; never raises, whatever the log handlers do."""
        try:
            with self._lock:
                self.count += 1
                kind = (place, type(error).__qualname__)
                known = kind in self._kinds
                self._kinds.add(kind)
            if not known:
                logger.warning(
                    "pool_exporter failed in %s and kept it from the application; its numbers may be off. "
                    "Further failures of this kind are only counted, in telemetry_errors_total.\n%s",
                    place,
                    # As text: a handler that keeps a traceback keeps the frames of all callers alive,
                    # and with them connections that the application lets go.
                    "".join(traceback.format_exception(error)).rstrip(),
                )
        except Exception:  # a log handler may raise; the application must not notice
            return

    def after_fork(self) -> None:
        """Start again in a forked child; the lock may have been held by a thread that is not there."""
        self.count = 0
        self._lock = threading.RLock()
