"""Join the rooms: attach to an engine, keep a ledger of its pool, name it, export it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from prometheus_client import REGISTRY, CollectorRegistry

from pool_exporter.arguments import (
    DEFAULT,
    Default,
    disabled,
    not_an_engine,
)
from pool_exporter.capture.activity import RecordProbe
from pool_exporter.capture.attach import Attachment, active_tap, root_engine, seam_objections
from pool_exporter.capture.attribution import Attribution
from pool_exporter.capture.describe import default_name
from pool_exporter.catalogue import Detail, resolve_buckets
from pool_exporter.exporters.rivals import real_provider, serves_opentelemetry
from pool_exporter.exports import Bounds, Export, ExportOptions
from pool_exporter.grouping import Group, Member
from pool_exporter.instrumentation import Instrumentation, NullInstrumentation
from pool_exporter.leaks import LeakPolicy
from pool_exporter.ledger import Ledger
from pool_exporter.options import DEFAULTS, Options, check_options
from pool_exporter.process import PROCESS
from pool_exporter.records import PoolSnapshot

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

    from pool_exporter.telemetry import Telemetry

FOLLOWERS: list[Callable[[Engine], None]] = []
"""Called with each engine that `instrument()` was called for, whether that went well or not; must not raise."""


def instrument(
    engine: AsyncEngine | Engine,
    *,
    name: str | None = None,
    registry: CollectorRegistry | Default | None = DEFAULT,
    meter_provider: MeterProvider | None = None,
    attribution: bool | Attribution = True,
    leaks: LeakPolicy | None = DEFAULTS.leaks,
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
    with PROCESS.lock:
        known = _known(root)
        if registry is DEFAULT:
            options = options._replace(registry=_default_registry(known, options))
        try:
            if known is not None and known._implicit and options != known.options:
                known.uninstrument()  # what is asked for goes before what was done unasked
                known = None
            if known is None:
                return _new(root, options)
            known._implicit = False
            return _again(known, root, options)
        finally:
            for follow in tuple(FOLLOWERS):
                follow(root)


def _default_registry(known: _Instrumented | _Grouped | None, options: Options) -> CollectorRegistry | None:
    """Return the registry of a call that names none."""
    if known is None:
        return options.registry
    if not known._implicit:
        return known.options.registry
    if known._told._telemetry is not None and serves_opentelemetry(REGISTRY):
        return None  # its reader goes on serving the pool there, by its OpenTelemetry names
    return options.registry


def tell(engine: Engine, wanted: Options) -> bool:
    """Tell the meter provider of `wanted` of a pool that is instrumented already; False if one is told.

    Raises `ValueError` where that cannot be. `untell` takes it back.
    """
    with PROCESS.lock:
        known = _known(engine)
        if known is None or known._told._telemetry is not None:
            return False
        telemetry = PROCESS.telemetry(wanted._replace(registry=known.options.registry))
        if telemetry is None:
            return False
        telemetry.add(known._told)
        return True


def untell(pool: Instrumentation, *, final: bool = False) -> None:
    """Let its meter provider forget a pool; `final` where it counts no more."""
    with PROCESS.lock:
        if pool._told._telemetry is not None:
            pool._told._telemetry.remove(pool._told, final=final)


def _new(engine: Engine, options: Options) -> Instrumentation:
    telemetry = PROCESS.telemetry(options)
    if telemetry is not None and options.registry is None:
        export = telemetry.own
    else:
        export = PROCESS.exports.of(
            options.registry,
            ExportOptions(options.detail, options.buckets),
            options.buckets or resolve_buckets(None),
        )
    PROCESS.sharing.begin()
    objections = seam_objections(engine.pool)
    if objections is not None:
        PROCESS.warn_once(
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
            telemetry.add(pool)
    PROCESS.look_soon()
    return pool


def _tell_of_group(group: Group, telemetry: Telemetry | None, options: Options) -> None:
    if telemetry is None or group._telemetry is telemetry:
        return
    if group._telemetry is not None:
        raise ValueError(
            f"meter_provider={options.meter_provider!r}: the group {group.name!r} tells another one already; "
            "give every instrument() of one group the same"
        )
    telemetry.add(group)


def _attached(engine: Engine, ledger: Ledger, mode: str, options: Options) -> Attachment:
    return Attachment(
        engine, ledger, mode=mode, statements=options.statements, attribution=options.attribution
    )


def _group_of(export: Export, options: Options, mode: str, bounds: Bounds) -> Group:
    """Return the group that was asked for, made if there is none; another one for pools in reduced mode.

    What those do not tell would leave the group's own numbers incomplete.
    """
    name = str(options.group) if mode == "full" else f"{options.group} ({mode})"
    group = export.groups.get(name)
    if group is None:
        ledger = Ledger(bounds, RecordProbe(), policy=options.leaks)
        group = export.groups[name] = Group(name, ledger)
        group._wake = PROCESS.soon  # type: ignore[method-assign]  # a group knows of no process
        group._name = export.names.claim(name, group)
    elif options.leaks not in (group._ledger.leaks.policy, DEFAULTS.leaks):
        raise ValueError(
            f"leaks={options.leaks!r}: the group {name!r} has another LeakPolicy already; give every "
            "instrument() of one group the same"
        )
    return group


class _Instrumented(Instrumentation):
    """An instrumentation that knows what it was asked for, to compare a second call with."""

    def __init__(self, name: str, ledger: Ledger, attachment: Attachment, options: Options) -> None:
        super().__init__(name, ledger, attachment)
        self.options = options
        self.attachment = attachment

    def _wake(self) -> None:
        PROCESS.soon()

    def uninstrument(self) -> None:
        with PROCESS.lock:
            super().uninstrument()
            untell(self, final=True)
            for export in PROCESS.exports.all():
                export.names.release(self)


class _Grouped(Member):
    """A member of a group that knows what it was asked for."""

    def __init__(self, group: Group, attachment: Attachment, options: Options) -> None:
        super().__init__(group, attachment)
        self.options = options
        self.attachment = attachment

    def _wake(self) -> None:
        PROCESS.soon()

    def uninstrument(self) -> None:
        with PROCESS.lock:
            super().uninstrument()
            if not self._group.empty:
                return
            untell(self, final=True)
            for export in PROCESS.exports.all():  # the last one was taken off on purpose
                export.names.release(self._group)
                export.groups = {name: one for name, one in export.groups.items() if one is not self._group}


def _known(engine: Engine) -> _Instrumented | _Grouped | None:
    tap = active_tap(engine)
    owner = tap.owner if tap is not None else None
    return owner if isinstance(owner, (_Instrumented, _Grouped)) else None


def _different(known: _Instrumented | _Grouped, options: Options) -> list[str]:
    """Return the options that were spelled out, and are not those of the first call."""
    if options.meter_provider is not None and known.options.meter_provider is not None:
        before, now = (real_provider(one.meter_provider) for one in (known.options, options))  # type: ignore[arg-type]
        if before is now:  # it was a proxy of a provider that was set since
            options = options._replace(meter_provider=known.options.meter_provider)
    return [
        f"{option}={getattr(options, option)!r}"
        for option in Options._fields
        if getattr(options, option) not in (getattr(known.options, option), getattr(DEFAULTS, option))
    ]


def _again(known: _Instrumented | _Grouped, engine: Engine, options: Options) -> Instrumentation:
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
    return [snapshot for export in PROCESS.exports.all() for snapshot in export.snapshots()]
