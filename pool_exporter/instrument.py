"""Join the rooms: attach to an engine, keep a ledger of its pool, name it, export it."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import REGISTRY, CollectorRegistry

from pool_exporter.arguments import (
    DEFAULT,
    Default,
    checked_detail,
    checked_flag,
    checked_meter_provider,
    checked_name,
    checked_registry,
    disabled,
    not_an_engine,
)
from pool_exporter.capture.activity import RecordProbe
from pool_exporter.capture.attach import Attachment, active_tap, root_engine, seam_objections
from pool_exporter.capture.attribution import Attribution, checked_attribution
from pool_exporter.capture.describe import default_name
from pool_exporter.catalogue import Detail, resolve_buckets
from pool_exporter.exports import Bounds, Export, ExportOptions, Exports
from pool_exporter.grouping import Group, Member
from pool_exporter.instrumentation import Instrumentation, NullInstrumentation
from pool_exporter.leaks import LeakPolicy, checked_policy
from pool_exporter.ledger import Ledger
from pool_exporter.records import PoolSnapshot
from pool_exporter.sharing import Sharing
from pool_exporter.watcher import Watcher

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

    from pool_exporter.telemetry import Telemetries, Telemetry

logger = logging.getLogger("pool_exporter")


class _Options(NamedTuple):
    """What a call of `instrument` asked for."""

    name: str | None
    registry: CollectorRegistry | None
    buckets: Mapping[str, tuple[float, ...]] | None
    attribution: Attribution | None
    leaks: LeakPolicy
    statements: bool
    detail: Detail
    group: str | None = None
    meter_provider: MeterProvider | None = None


_DEFAULTS = _Options(
    name=None,
    registry=REGISTRY,
    buckets=None,
    attribution=Attribution(),
    leaks=LeakPolicy(),
    statements=True,
    detail="full",
)

SAMPLE_SECONDS = 5.0
"""The time between two points of the history that a status page shows."""


class _Process:
    """What this process has instrumented. Prometheus's default registry is global, and so is this."""

    def __init__(self) -> None:
        self.exports = Exports()
        self.lock = threading.RLock()  # held while an engine is instrumented, or no longer
        self.watcher = Watcher(self.check)
        self.sharing = Sharing(self.exports, self.warn_once)
        self._telemetries: Telemetries | None = None  # made when the first meter provider is given
        self.sampling = False  # whether somebody looks at the pools' history
        self._sampled_at = self._look_at = float("-inf")
        self._said: set[str] = set()
        self._soon = False  # whether there is something to look at before its time
        if hasattr(os, "register_at_fork"):
            # A process that has a second thread when it forks is warned of it, and rightly.
            os.register_at_fork(
                before=self.before_fork,
                after_in_parent=self.after_fork_in_parent,
                after_in_child=self.after_fork,
            )

    def pools(self) -> list[Instrumentation]:
        """Return every pool that is instrumented and still there; never raises."""
        found: list[Instrumentation] = []
        for export in self.exports.all():
            try:
                found += export.pools()
            except Exception as error:
                export.faults.report("pools", error)
        return found

    def telemetry(self, options: _Options) -> Telemetry | None:
        """Return what tells the meter provider that was asked for, None if none was."""
        if options.meter_provider is None:
            return None
        if self._telemetries is None:  # not every process pays for the import
            telemetries = import_module("pool_exporter.telemetry").Telemetries
            self._telemetries = telemetries(self.exports, self.warn_once)
        found: Telemetry = self._telemetries.of(
            options.meter_provider,
            ExportOptions(options.detail, options.buckets),
            options.buckets or resolve_buckets(None),
        )
        found.check(options.registry)
        return found

    def watch(self) -> None:
        """See to it that the pools are checked, if there are any."""
        if self.pools():
            self.look_soon()

    def look_soon(self) -> None:
        """Look at all pools as soon as may be, and then when it is time."""
        self._soon = True
        self.watcher.start()

    def soon(self) -> None:
        """Do the same where the thread is there already; waits for nothing."""
        self._soon = True
        self.watcher.wake()

    def check(self) -> float | None:
        """Do what is due now; return the seconds until the next time, None where there is none."""
        now = time.monotonic()
        if self._soon or now >= self._look_at:
            self._soon = False
            pause = self._look(now)
            self._look_at = float("-inf") if pause is None else now + pause
        pauses = [] if self._look_at == float("-inf") else [self._look_at - now]
        pauses += [
            pause for pause in (self.sharing.publish(gently=True), self._relieve()) if pause is not None
        ]
        return max(0.0, min(pauses)) if pauses else None

    def _relieve(self) -> float | None:
        return None if self._telemetries is None else self._telemetries.relieve()

    def _look(self, now: float) -> float | None:
        """Check every pool; return the seconds until the next look, None where there is no pool."""
        pauses = []
        sample = self.sampling and now - self._sampled_at >= SAMPLE_SECONDS
        if sample:
            self._sampled_at = now
        for pool in self.pools():
            try:
                pauses.append(pool._check())
                if sample:
                    pool._sample()
            except Exception as error:
                pauses.append(SAMPLE_SECONDS)  # there is a pool, so there is a next time
                pool._ledger.faults.report("check", error)
        return min(pauses, default=None)

    def warn_once(self, message: str, *arguments: object) -> None:
        """Log a warning unless the same was logged before."""
        text = message % arguments
        if text not in self._said:
            self._said.add(text)
            logger.warning("%s", text)

    def before_fork(self) -> None:
        """Let nothing of ours be in the middle of something when the process forks."""
        self.watcher.stop()
        self.sharing.before_fork()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self.sharing.after_fork_in_parent()
        self.watch()

    def after_fork(self) -> None:
        """Let every pool start again in a forked child, from the connections it inherited."""
        self.lock = threading.RLock()
        self.watcher.after_fork()
        self.sharing.after_fork_in_child()
        for export in self.exports.all():
            export.names.after_fork()
            export.faults.after_fork()
            for pool in export.names.holders():
                pool._after_fork()
        self.watch()


_PROCESS = _Process()


def instrument(
    engine: AsyncEngine | Engine,
    *,
    name: str | None = None,
    registry: CollectorRegistry | Default | None = DEFAULT,
    meter_provider: MeterProvider | None = None,
    attribution: bool | Attribution = True,
    leaks: LeakPolicy | None = _DEFAULTS.leaks,
    buckets: Mapping[str, Sequence[float]] | None = None,
    statements: bool = True,
    detail: Detail = "full",
    group: str | None = None,
) -> Instrumentation:
    """Export the truth about an engine's connection pool from now on.

    Works on a pool in any state, once or again: a second call for the same engine returns the
    same `Instrumentation`. Listeners and overrides go on this engine's own pool and dialect.

    - `engine`: an `AsyncEngine` or `Engine`; an option engine stands for the engine it was made of.
    - `name`: the `pool` label, 1 to 200 characters. Default: the engine's `pool_logging_name`,
      else `host:port/database`. A name that another live pool has gets a suffix (`-2`) and a warning.
    - `registry`: the prometheus_client registry; None exports nothing there. Not spelled out it is
      prometheus_client's REGISTRY, and none where a `meter_provider` is given.
    - `meter_provider`: the OpenTelemetry meter provider; `opentelemetry.metrics.get_meter_provider()`
      stands also for one that is set later.
    - `attribution`: find out who holds each connection; an `Attribution` says how.
    - `leaks`: the `LeakPolicy` by which a use is overdue; None: none ever is.
    - `buckets`: upper bounds in seconds by histogram name, for all pools of the registry.
    - `statements`: count statements, and see them as activity of a use.
    - `detail`: "full" or "basic", which exports fewer series; for all pools of the registry.
    - `group`: count this engine's pool together with those of all other engines of the same group, under
      this name instead of one of its own; what `snapshot()` and `held()` return is the group's.

    Raises `TypeError` or `ValueError` that names the argument, the value and the remedy. With
    `POOL_EXPORTER_DISABLED=1` in the environment it touches nothing and returns a null object.
    """
    if disabled():
        return NullInstrumentation(group or name or "")
    options = check_options(
        name=name,
        registry=registry,
        meter_provider=meter_provider,
        attribution=attribution,
        leaks=leaks,
        buckets=buckets,
        statements=statements,
        detail=detail,
        group=group,
    )
    root = root_engine(engine)
    if root is None:
        raise not_an_engine(engine)
    with _PROCESS.lock:
        known = _known(root)
        if known is not None and known._implicit and options != known.options:
            known.uninstrument()  # what is asked for goes before what was done unasked
            made = _new(root, options)
            _tell_as_before(known, root, made)
            return made
        if known is not None:
            known._implicit = False
            return _again(known, root, options)
        return _new(root, options)


def check_options(
    *,
    name: object,
    registry: object,
    meter_provider: object,
    attribution: object,
    leaks: object,
    buckets: Mapping[str, Sequence[float]] | None,
    statements: object,
    detail: object,
    group: object,
) -> _Options:
    """Return the options of a call. Raises TypeError or ValueError for what cannot be right."""
    options = _Options(
        name=checked_name(name),
        registry=checked_registry(registry, meter_provider),
        meter_provider=checked_meter_provider(meter_provider),
        attribution=checked_attribution(attribution),
        leaks=checked_policy(leaks),
        buckets=None if buckets is None else resolve_buckets(buckets),
        statements=checked_flag("statements", statements),
        detail=checked_detail(detail),
        group=checked_name(group, "group"),
    )
    if name is not None and group is not None:
        raise ValueError(f"name={name!r} and group={group!r}: a group has one name; leave name out")
    return options


def _tell_as_before(known: _Instrumented | _Grouped, engine: Engine, made: Instrumentation) -> None:
    """Tell of a pool, for as long as was to be told of `known`, whose place it took."""
    try:
        if tell(engine, known.options):
            known._heir_is_told(made)
    except ValueError as error:
        _PROCESS.warn_once("OpenTelemetry is not told any more of the pool %r: %s", known.name, error)


def tell(engine: Engine, wanted: _Options) -> bool:
    """Tell the meter provider of `wanted` of a pool that is instrumented already; False if one is told.

    Raises `ValueError` where that cannot be. `untell` takes it back.
    """
    with _PROCESS.lock:
        known = _known(engine)
        if known is None or known._told._telemetry is not None:
            return False
        telemetry = _PROCESS.telemetry(wanted._replace(registry=known.options.registry))
        if telemetry is None:
            return False
        telemetry.add(known._told, known.options.registry)
        return True


def untell(pool: Instrumentation) -> None:
    """Let its meter provider forget a pool."""
    with _PROCESS.lock:
        if pool._told._telemetry is not None:
            pool._told._telemetry.remove(pool._told)


def _new(engine: Engine, options: _Options) -> Instrumentation:
    telemetry = _PROCESS.telemetry(options)
    if telemetry is not None and options.registry is None:
        export = telemetry.own
    else:
        export = _PROCESS.exports.of(
            options.registry,
            ExportOptions(options.detail, options.buckets),
            options.buckets or resolve_buckets(None),
        )
    _PROCESS.sharing.begin()
    objections = seam_objections(engine.pool)
    if objections is not None:
        _PROCESS.warn_once(
            "pool_exporter uses SQLAlchemy's events only, and leaves out what they do not tell "
            '(info{mode="reduced"}): %s',
            objections,
        )
    mode = "full" if objections is None else "reduced"
    # Pools that are not exported share no buckets.
    exported = options.registry is not None or telemetry is not None
    bounds = export.bounds if exported else options.buckets or resolve_buckets(None)
    pool: _Instrumented | _Grouped
    if options.group is not None:
        group = _group_of(export, options, mode, bounds)
        _tell_of_group(group, telemetry, options)
        pool = _Grouped(group, _attached(engine, group._ledger, mode, options), options)
    else:
        ledger = Ledger(bounds, RecordProbe(), policy=options.leaks)
        attachment = _attached(engine, ledger, mode, options)
        pool = _Instrumented(options.name or default_name(engine), ledger, attachment, options)
        pool._name = export.names.claim(pool._name, pool)
        if telemetry is not None:
            telemetry.add(pool, options.registry)
    _PROCESS.look_soon()
    return pool


def _tell_of_group(group: Group, telemetry: Telemetry | None, options: _Options) -> None:
    if telemetry is None or group._telemetry is telemetry:
        return
    if group._telemetry is not None:
        raise ValueError(
            f"meter_provider={options.meter_provider!r}: the group {group.name!r} tells another one already; "
            "give every instrument() of one group the same"
        )
    telemetry.add(group, options.registry)


def _attached(engine: Engine, ledger: Ledger, mode: str, options: _Options) -> Attachment:
    return Attachment(
        engine, ledger, mode=mode, statements=options.statements, attribution=options.attribution
    )


def _group_of(export: Export, options: _Options, mode: str, bounds: Bounds) -> Group:
    """Return the group that was asked for, made if there is none; another one for pools in reduced mode.

    What those do not tell would leave the group's own numbers incomplete.
    """
    name = str(options.group) if mode == "full" else f"{options.group} ({mode})"
    group = export.groups.get(name)
    if group is None:
        ledger = Ledger(bounds, RecordProbe(), policy=options.leaks)
        group = export.groups[name] = Group(name, ledger)
        group._wake = _PROCESS.soon  # type: ignore[method-assign]  # a group knows of no process
        group._name = export.names.claim(name, group)
    elif options.leaks not in (group._ledger.leaks.policy, _DEFAULTS.leaks):
        raise ValueError(
            f"leaks={options.leaks!r}: the group {name!r} has another LeakPolicy already; give every "
            "instrument() of one group the same"
        )
    return group


class _Instrumented(Instrumentation):
    """An instrumentation that knows what it was asked for, to compare a second call with."""

    def __init__(self, name: str, ledger: Ledger, attachment: Attachment, options: _Options) -> None:
        super().__init__(name, ledger, attachment)
        self.options = options
        self.attachment = attachment

    def _wake(self) -> None:
        _PROCESS.soon()

    def uninstrument(self) -> None:
        with _PROCESS.lock:
            super().uninstrument()
            untell(self)
            for export in _PROCESS.exports.all():
                export.names.release(self)


class _Grouped(Member):
    """A member of a group that knows what it was asked for."""

    def __init__(self, group: Group, attachment: Attachment, options: _Options) -> None:
        super().__init__(group, attachment)
        self.options = options
        self.attachment = attachment

    def _wake(self) -> None:
        _PROCESS.soon()

    def uninstrument(self) -> None:
        with _PROCESS.lock:
            super().uninstrument()
            if not self._group.empty:
                return
            untell(self)
            for export in _PROCESS.exports.all():  # the last one was taken off on purpose
                export.names.release(self._group)
                export.groups = {name: one for name, one in export.groups.items() if one is not self._group}


def _known(engine: Engine) -> _Instrumented | _Grouped | None:
    tap = active_tap(engine)
    owner = tap.owner if tap is not None else None
    return owner if isinstance(owner, (_Instrumented, _Grouped)) else None


def _different(known: _Instrumented | _Grouped, options: _Options) -> list[str]:
    """Return the options that were spelled out, and are not those of the first call."""
    return [
        f"{option}={getattr(options, option)!r}"
        for option in _Options._fields
        if getattr(options, option) not in (getattr(known.options, option), getattr(_DEFAULTS, option))
    ]


def _again(known: _Instrumented | _Grouped, engine: Engine, options: _Options) -> Instrumentation:
    different = _different(known, options)
    if different:
        raise ValueError(
            f"{', '.join(different)}: this engine's pool is instrumented already as {known.name!r}, with other "
            "options; call instrument() once for it, or uninstrument() the first before"
        )
    known.attachment.add_engine(engine)  # two engines on one pool
    return known


def snapshots() -> list[PoolSnapshot]:
    """Return a snapshot of every pool that is instrumented in this process."""
    return [snapshot for export in _PROCESS.exports.all() for snapshot in export.snapshots()]
