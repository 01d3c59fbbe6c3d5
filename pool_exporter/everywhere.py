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
from pool_exporter.exporters.rivals import real_provider
from pool_exporter.instrument import FOLLOWERS, _known, instrument, tell, untell
from pool_exporter.instrumentation import Instrumentation
from pool_exporter.leaks import LeakPolicy
from pool_exporter.options import check_options

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

logger = logging.getLogger("pool_exporter")

_LOCK = threading.RLock()  # guards _CURRENT
_CURRENT: list[AllInstrumentation] = []  # those in force: what was asked for goes before what was not
_END: list[Callable[[], None]] = []  # what ends our hearing of new engines, while we do


def _after_fork() -> None:
    global _LOCK  # noqa: PLW0603 - a thread that did not survive may have held it
    _LOCK = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class AllInstrumentation:
    """What `instrument_all()` returns: every engine's instrumentation, and the way back.

    As a context manager it calls `uninstrument()` at the end. `asked`: whether the application asked for
    it, and not only who started the program.
    """

    def __init__(self, options: Mapping[str, Any], *, asked: bool = True) -> None:
        self._options = dict(options)
        self._asked = asked
        self._made: weakref.WeakSet[Instrumentation] = weakref.WeakSet()
        self._told: weakref.WeakSet[Instrumentation] = weakref.WeakSet()

    @property
    def instrumentations(self) -> list[Instrumentation]:
        """Return the instrumentations that it made, of engines that are still there."""
        return list(self._made)

    def _different(self, options: Mapping[str, Any]) -> list[str]:
        """Return the names of the options that are not its own."""
        return [
            name
            for name, value in options.items()
            if real_provider(self._options[name]) != real_provider(value)
        ]

    def _take_in(self, engine: Engine) -> None:
        """Instrument an engine, unless the application has done so itself. Never raises."""
        try:
            known = _known(engine)
            if known is None or (self._asked and known._implicit and known not in self._made):
                made = instrument(engine, **self._options)
                made._implicit = True
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
            if not _CURRENT:
                _stop()
            for made in list(self._made):
                if made._implicit:
                    made.uninstrument()
            for told in list(self._told):
                untell(told)
            self._made.clear()
            self._told.clear()
            if _CURRENT:  # which has the engines again that this one took from it
                for engine in existing_engines():
                    _take_in(engine)

    def __enter__(self) -> AllInstrumentation:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.uninstrument()


def _take_in(engine: Engine) -> None:
    """Let everything in force have an engine that was made, or was instrumented by itself. Never raises."""
    for current in tuple(_CURRENT):
        current._take_in(engine)


def _start() -> None:
    """Hear of new engines from now on, if we do not yet."""
    if not _END:
        FOLLOWERS.append(_take_in)
        _END.append(tell_of_new_engines(_take_in))


def _stop() -> None:
    if _END:
        FOLLOWERS.remove(_take_in)
        _END.pop()()


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
    return in_force(options)


def in_force(options: Mapping[str, Any], *, asked: bool = True) -> AllInstrumentation:
    """Put in force what `instrument_all()` describes; where it was not `asked` for, beside what is or will be.

    Then an engine is instrumented as the application has it, and the meter provider is told of it all the same.
    """
    if disabled():
        return AllInstrumentation(options, asked=asked)
    check_options(name=None, **options)
    with _LOCK:
        for current in _CURRENT:
            if current._asked is not asked:
                continue
            for name in current._different(options):
                raise ValueError(
                    f"{name}={options[name]!r}: all engines are instrumented already, with "
                    f"{name}={current._options[name]!r}; call instrument_all() once, or uninstrument() the first before"
                )
            return current
        made = AllInstrumentation(options, asked=asked)
        _CURRENT.insert(0 if asked else len(_CURRENT), made)
        _start()
        for engine in existing_engines():
            made._take_in(engine)
    return made
