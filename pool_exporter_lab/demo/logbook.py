"""Keep what the library logs of leaks and timeouts off the terminal, for the demo to show its own way."""

from __future__ import annotations

import contextlib
import logging
import re
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import PurePath

from pool_exporter_lab.demo.moment import Leak, Message, Site

LOGGERS = ("pool_exporter.leaks", "pool_exporter.timeouts")
MAX_LEAKS = 1000
MAX_MESSAGES = 2
_POOL = re.compile(r"""^pool ('(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"):?""")
"""What a message begins with: a pool's name as Python writes it."""
MAX_LENGTH = 200
"""Characters of a message."""


class Logbook(logging.Handler):
    """A handler that remembers: the last messages, the last leaks, and how many there were by site.

    The library logs from a thread of its own. The handler's lock, which `logging` holds around
    `emit`, guards what is remembered of records.
    """

    def __init__(self) -> None:
        super().__init__()
        self._messages: deque[Message] = deque(maxlen=MAX_MESSAGES)
        self._leaks: deque[Leak] = deque(maxlen=MAX_LEAKS)
        self._events: Counter[tuple[str, Site]] = Counter()
        self._logged = 0
        self._timeout_note: str | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Remember a record; of those on a leak also the fields."""
        self._logged += 1
        self._messages.append(Message(self._logged, _shortened(record)))
        if hasattr(record, "owner_function"):  # not of a timeout, nor of leaks that come in crowds
            leak = _leak(record)
            self._leaks.append(leak)
            self._events[leak.event, leak.site] += 1

    def timed_out(self, error: Exception) -> None:
        """Remember the note on a pool timeout; there is none before Python 3.11."""
        self._timeout_note = "\n".join(getattr(error, "__notes__", ())) or None

    @property
    def timeout_note(self) -> str | None:
        """Return the note on the last pool timeout that a request met, None if there was none."""
        return self._timeout_note

    def messages(self) -> tuple[Message, ...]:
        """Return the last messages, the oldest first."""
        with self._guard():
            return tuple(self._messages)

    def leaks(self) -> tuple[Leak, ...]:
        """Return the last steps in the lives of leaks, the oldest first."""
        with self._guard():
            return tuple(self._leaks)

    def events(self) -> dict[tuple[str, Site], int]:
        """Return how many steps of each kind there were by site, since the beginning."""
        with self._guard():
            return dict(self._events)

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        self.acquire()
        try:
            yield
        finally:
            self.release()


@contextlib.contextmanager
def logbook() -> Iterator[Logbook]:
    """Take the records of leaks and timeouts, and let no other handler have them until the end."""
    book = Logbook()
    with contextlib.ExitStack() as stack:
        for name in LOGGERS:
            logger = logging.getLogger(name)
            stack.callback(_restore, logger, logger.level, logger.propagate, book)
            logger.setLevel(logging.INFO)
            logger.propagate = False
            logger.addHandler(book)
        yield book


def _restore(logger: logging.Logger, level: int, propagate: bool, book: Logbook) -> None:
    logger.removeHandler(book)
    logger.propagate = propagate
    logger.setLevel(level)


def _leak(record: logging.LogRecord) -> Leak:
    fields = record.__dict__
    site = Site(fields["owner"], fields["owner_function"], fields["owner_filename"], fields["owner_lineno"])
    return Leak(event=fields["event"], kind=fields["kind"], site=site, age_seconds=fields["age_seconds"])


def _shortened(record: logging.LogRecord) -> str:
    """Return the beginning of a message in one line, of a timeout's down to the oldest holder.

    It names no pool, since there is one only, and of a path the file.
    """
    text = " ".join(record.getMessage().split("\n")[:2])
    text = _POOL.sub("", text)
    holders = record.__dict__.get("held", ())
    for path in (record.__dict__.get("owner_filename"), *(one["filename"] for one in holders[:1])):
        if path is not None:
            text = text.replace(path, PurePath(path).name)
    text = " ".join(text.split())
    return text if len(text) <= MAX_LENGTH else text[:MAX_LENGTH] + "…"
