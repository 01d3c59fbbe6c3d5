"""Instrument every engine of the process: those that there are, and those that are still to be made."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry

from pool_exporter.capture.callers.attribution import Attribution
from pool_exporter.capture.new_engines import existing_engines, tell_of_new_engines
from pool_exporter.catalogue import Detail
from pool_exporter.exporters.opentelemetry.sdk import real_provider
from pool_exporter.instrumentation.instrument import FOLLOWERS, TOLD_UNASKED, instrument_engine, tell
from pool_exporter.instrumentation.instrumentation import Instrumentation
from pool_exporter.instrumentation.monitored_pool import (
    Grouped,
    Instrumented,
    instrumentation_of,
    tell_no_more,
)
from pool_exporter.instrumentation.options import DEFAULT, Default, check_options
from pool_exporter.instrumentation.runtime import RUNTIME
from pool_exporter.ledger.leak_policy import LeakPolicy
from pool_exporter.support.environment import disabled

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from sqlalchemy import Engine

    from pool_exporter.exporters.opentelemetry.provider import ProviderExporter

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
        self._telemetry: ProviderExporter | None = None  # kept for the engines to come
        self._over = False

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

    def _take_in(self, engine: Engine, *, inherits: bool = False) -> None:
        """Instrument an engine, unless the application has done so itself. Never raises.

        `inherits`: it takes the engine over from another one that ends.
        """
        try:
            known = instrumentation_of(engine)
            if known is None or (known._implicit and known not in self._made and (self._asked or inherits)):
                made = instrument_engine(
                    engine,
                    check_options(name=None, **self._options),
                    anywhere=self._options["registry"] is DEFAULT,
                    asked=self._asked,
                )
                made._implicit = True
                self._made.add(made)
                if self._over:  # since another thread began to make the engine
                    made.uninstrument()
            elif self._options["meter_provider"] is not None:
                self._tell(engine, known)
        except Exception as error:
            RUNTIME.warn_once(
                "an engine on %s is not instrumented with all others: %s", engine.dialect.name, error
            )

    def _tell(self, engine: Engine, known: Instrumented | Grouped) -> None:
        """Tell the meter provider of a pool that somebody else instruments, or has taken over from this."""
        told = tell(engine, check_options(name=None, **self._options), asked=self._asked)
        if told or (known in self._made and known.options.meter_provider is None):
            self._told.add(known._told)
        self._made.discard(known)

    def uninstrument(self) -> None:
        """Take everything off: of the engines that it instrumented, and of the making of new ones.

        Leaves alone what `instrument()` was called for. Does nothing twice.
        """
        with _LOCK:
            self._over = True
            if self in _CURRENT:
                _CURRENT.remove(self)
                if not self._asked and self._options["meter_provider"] is not None:
                    TOLD_UNASKED.remove(self._options["meter_provider"])
            if not _CURRENT:
                _stop()
            for made in list(self._made):
                if made._implicit and not self._inherited(made):
                    made.uninstrument()
            for told in list(self._told):
                tell_no_more(told)
            self._made.clear()
            self._told.clear()

    def _inherited(self, made: Instrumentation) -> bool:
        """Let another one that is in force have what this one had; tell whether one has."""
        for heir in _CURRENT:
            for engine in made._attachment.tap.engines() if made._attachment is not None else ():
                heir._take_in(engine, inherits=True)
            if made in heir._made:
                return True
        return False

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
    is as that call says; a `meter_provider` is told of it too, if the call names none. Engines are seen
    when `create_engine()` or `create_async_engine()` makes them, wherever those were imported from:
    SQLAlchemy's `URL` is told so, which `uninstrument()` takes back. Those that there are already are
    found among what the garbage collector knows, so call it before `gc.freeze()`.

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
    return apply_to_all(options)


def apply_to_all(options: Mapping[str, Any], *, asked: bool = True) -> AllInstrumentation:
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
        if options["meter_provider"] is not None:
            # Now, and not with the first engine: somebody may make that in the course of a collection.
            made._telemetry = RUNTIME.telemetry(check_options(name=None, **options), asked=asked)
            if not asked:
                TOLD_UNASKED.append(options["meter_provider"])
        _CURRENT.insert(0 if asked else len(_CURRENT), made)
        _start()
        for engine in existing_engines():
            made._take_in(engine)
    return made
