"""Instrument every engine of the process: those that there are, and those that are still to be made."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry
from sqlalchemy import Engine

from pool_exporter.arguments import DEFAULT, Default, disabled
from pool_exporter.capture.attribution import Attribution
from pool_exporter.capture.creation import existing_engines, tell_of_new_engines
from pool_exporter.catalogue import Detail
from pool_exporter.instrument import _known, check_options, instrument, tell, untell
from pool_exporter.instrumentation import Instrumentation
from pool_exporter.leaks import LeakPolicy

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

logger = logging.getLogger("pool_exporter")

_LOCK = threading.RLock()  # guards _CURRENT
_CURRENT: list[AllInstrumentation] = []  # the one that is in force, if any


def _after_fork() -> None:
    global _LOCK  # noqa: PLW0603 - a thread that did not survive may have held it
    _LOCK = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class AllInstrumentation:
    """What `instrument_all()` returns: every engine's instrumentation, and the way back.

    As a context manager it calls `uninstrument()` at the end.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = dict(options)
        self._made: weakref.WeakSet[Instrumentation] = weakref.WeakSet()
        self._told: weakref.WeakSet[Instrumentation] = weakref.WeakSet()
        self._end: Callable[[], None] = lambda: None

    @property
    def instrumentations(self) -> list[Instrumentation]:
        """Return the instrumentations that it made, of engines that are still there."""
        return list(self._made)

    def _begin(self) -> None:
        self._end = tell_of_new_engines(self._take_in)
        for engine in existing_engines():
            self._take_in(engine)

    def _take_in(self, engine: Engine) -> None:
        """Instrument an engine, unless the application has done so itself. Never raises."""
        try:
            known = _known(engine)
            if known is None:
                made = instrument(engine, **self._options)
                made._implicit = True
                made._heir_is_told = self._told.add
                self._made.add(made)
            elif self._options["meter_provider"] is not None:
                options = check_options(name=None, **self._options)
                if tell(engine, options):
                    self._told.add(known)
        except Exception as error:
            logger.warning("instrument_all() leaves out an engine on %s: %s", engine.dialect.name, error)

    def uninstrument(self) -> None:
        """Take everything off: of the engines that it instrumented, and of the making of new ones.

        Leaves alone what `instrument()` was called for. Does nothing twice.
        """
        with _LOCK:
            if self in _CURRENT:
                _CURRENT.remove(self)
                self._end()
        for made in list(self._made):
            if made._implicit:
                made.uninstrument()
        for told in list(self._told):
            untell(told)
        self._made.clear()
        self._told.clear()

    def __enter__(self) -> AllInstrumentation:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.uninstrument()


def instrument_all(
    *,
    registry: CollectorRegistry | Default | None = DEFAULT,
    meter_provider: MeterProvider | None = None,
    attribution: bool | Attribution = True,
    leaks: LeakPolicy | None = LeakPolicy(),  # noqa: B008 - frozen
    buckets: Mapping[str, Sequence[float]] | None = None,
    statements: bool = True,
    detail: Detail = "full",
    group: str | None = None,
) -> AllInstrumentation:
    """Instrument every engine of this process, synchronous or not: existing ones, and each that is made later.

    The options are those of `instrument()`, for all engines; each engine has a name of its own unless
    there is a `group`. An engine for which the application calls `instrument()`, before or after,
    is as that call says; a `meter_provider` is told of it too, if the call names none. Engines are seen when `create_engine()` or `create_async_engine()` makes them,
    wherever those were imported from: SQLAlchemy's `URL` is told so, which `uninstrument()` takes back. Those that
    there are already are found among what the garbage collector knows, so call it before `gc.freeze()`.

    Called again with the same options it returns the same object. Raises `TypeError` or `ValueError` for
    an argument that cannot be right, and `ValueError` for other options than those in force. With
    `POOL_EXPORTER_DISABLED=1` in the environment it touches nothing.
    """
    options: dict[str, Any] = {
        "registry": registry,
        "meter_provider": meter_provider,
        "attribution": attribution,
        "leaks": leaks,
        "buckets": buckets,
        "statements": statements,
        "detail": detail,
        "group": group,
    }
    if disabled():
        return AllInstrumentation(options)
    check_options(name=None, **options)
    with _LOCK:
        for current in _CURRENT:
            different = [name for name, value in options.items() if current._options[name] != value]
            if different:
                name = different[0]
                raise ValueError(
                    f"{name}={options[name]!r}: all engines are instrumented already, with "
                    f"{name}={current._options[name]!r}; call instrument_all() once, or uninstrument() the first before"
                )
            return current
        made = AllInstrumentation(options)
        _CURRENT.append(made)
        made._begin()
    return made
