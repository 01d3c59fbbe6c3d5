"""Join the rooms: attach to an engine, keep a ledger of its pool, name it, export it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from prometheus_client import REGISTRY, CollectorRegistry

from pool_exporter.capture.attach import Attachment, root_engine, seam_objections
from pool_exporter.capture.callers.attribution import Attribution
from pool_exporter.capture.engine_name import default_name
from pool_exporter.capture.record_probe import RecordProbe
from pool_exporter.catalogue import Detail, resolve_buckets
from pool_exporter.exporters.opentelemetry.sdk import real_provider, serves_opentelemetry
from pool_exporter.instrumentation.destinations import Bounds, Destination, DestinationOptions
from pool_exporter.instrumentation.instrumentation import Instrumentation, NullInstrumentation
from pool_exporter.instrumentation.monitored_pool import (
    Group,
    Grouped,
    Instrumented,
    instrumentation_of,
    tell_no_more,
)
from pool_exporter.instrumentation.options import (
    DEFAULT,
    DEFAULTS,
    Default,
    Options,
    check_options,
    not_an_engine,
)
from pool_exporter.instrumentation.runtime import RUNTIME
from pool_exporter.ledger.leak_policy import LeakPolicy
from pool_exporter.ledger.ledger import Ledger
from pool_exporter.records import PoolSnapshot
from pool_exporter.support.environment import disabled

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

    from pool_exporter.exporters.opentelemetry.provider import ProviderExporter

OF_THE_COUNTING = ("group", "buckets", "attribution", "leaks", "statements")
"""Options by which a pool is counted, not only exported."""
TOLD_UNASKED: list[MeterProvider] = []
"""The meter providers that are told of every pool, though the application has not asked for it."""
FOLLOWERS: list[Callable[[Engine], None]] = []
"""Called with each engine that `instrument()` was called for, whether that went well or not; must not raise."""
_followed: set[int] = set()  # the id() of engines at which they look just now; the process's lock guards it


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
    return instrument_engine(root, options, anywhere=registry is DEFAULT)


def instrument_engine(
    engine: Engine, options: Options, *, anywhere: bool, asked: bool = True
) -> Instrumentation:
    """Do what `instrument()` is asked for; `anywhere`: no registry was named.

    Where it was not `asked` for, and where what was not is in the way, it takes what there is.
    """
    with RUNTIME.lock:
        known = instrumentation_of(engine)
        if anywhere:
            options = options._replace(registry=_default_registry(known, options))
        try:
            if known is not None and known._implicit and options != known.options:
                if _move(known, engine, options, asked=asked):
                    return known
                known.uninstrument()  # what is asked for goes before what was done unasked
                known = None
            if known is None:
                return _new(engine, options, asked=asked)
            known._implicit = False
            return _again(known, engine, options)
        finally:
            _follow(engine)


def _follow(engine: Engine) -> None:
    """Let the followers have a look at an engine, who may come back here for it."""
    key = id(engine)
    if key not in _followed:
        _followed.add(key)
        try:
            for follow in tuple(FOLLOWERS):
                follow(engine)
        finally:
            _followed.discard(key)


def _default_registry(known: Instrumented | Grouped | None, options: Options) -> CollectorRegistry | None:
    """Return the registry of a call that names none."""
    if known is not None and not known._implicit:
        return known.options.registry
    if TOLD_UNASKED and serves_opentelemetry(REGISTRY):
        return None  # its reader serves the pool there, by its OpenTelemetry names
    return options.registry


def _destinations(options: Options, *, asked: bool) -> tuple[ProviderExporter | None, Destination]:
    """Return who is told of a pool, and where it has its name. Raises `ValueError` where it cannot be."""
    telemetry = RUNTIME.telemetry(options, asked=asked)
    if telemetry is not None and options.registry is None:
        return telemetry, telemetry.own
    return telemetry, RUNTIME.exports.of(
        options.registry,
        DestinationOptions(options.detail, options.buckets),
        options.buckets or resolve_buckets(None),
    )


def _move(known: Instrumented | Grouped, engine: Engine, options: Options, *, asked: bool) -> bool:
    """Let what was done unasked go on as what is asked for, without a break in its counts; False if it cannot."""
    if isinstance(known, Grouped) or any(
        getattr(known.options, option) != getattr(options, option) for option in OF_THE_COUNTING
    ):
        return False
    telemetry, export = _destinations(options, asked=asked)
    if known._ledger._bounds != dict(export.bounds):
        return False
    for other in RUNTIME.exports.all():
        other.names.release(known)
    known._name = export.names.claim(options.name or default_name(engine), known)
    if telemetry is not None and telemetry is not known._telemetry:
        tell_no_more(known)
        telemetry.add(known)
    known.options = options
    known._implicit = False
    RUNTIME.look_soon()
    return True


def tell(engine: Engine, wanted: Options, *, asked: bool = True) -> bool:
    """Tell the meter provider of `wanted` of a pool that is instrumented already; False if one is told.

    Raises `ValueError` where that cannot be. `tell_no_more` takes it back.
    """
    with RUNTIME.lock:
        known = instrumentation_of(engine)
        if known is None or known._told._telemetry is not None:
            return False
        telemetry = RUNTIME.telemetry(wanted._replace(registry=known.options.registry), asked=asked)
        if telemetry is None:
            return False
        telemetry.add(known._told)
        return True


def _new(engine: Engine, options: Options, *, asked: bool) -> Instrumentation:
    telemetry, export = _destinations(options, asked=asked)
    RUNTIME.sharing.begin()
    objections = seam_objections(engine.pool)
    if objections is not None:
        RUNTIME.warn_once(
            "pool_exporter uses SQLAlchemy's events only, and leaves out what they do not tell "
            '(info{mode="reduced"}): %s',
            objections,
        )
    mode = "full" if objections is None else "reduced"
    # Pools that are not exported share no buckets.
    exported = options.registry is not None or telemetry is not None
    bounds = export.bounds if exported else options.buckets or resolve_buckets(None)
    pool: Instrumented | Grouped
    if options.group is not None:
        group = _group_of(export, options, mode, bounds)
        _tell_of_group(group, telemetry, options)
        pool = Grouped(group, _attached(engine, group._ledger, mode, options), options)
    else:
        ledger = Ledger(bounds, RecordProbe(), policy=options.leaks)
        if telemetry is not None:  # before anything is counted
            telemetry.keep_samples(ledger)
        attachment = _attached(engine, ledger, mode, options)
        pool = Instrumented(options.name or default_name(engine), ledger, attachment, options)
        pool._name = export.names.claim(pool._name, pool)
        if telemetry is not None:
            telemetry.add(pool)
    RUNTIME.look_soon()
    return pool


def _tell_of_group(group: Group, telemetry: ProviderExporter | None, options: Options) -> None:
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


def _group_of(export: Destination, options: Options, mode: str, bounds: Bounds) -> Group:
    """Return the group that was asked for, made if there is none; another one for pools in reduced mode.

    What those do not tell would leave the group's own numbers incomplete.
    """
    name = str(options.group) if mode == "full" else f"{options.group} ({mode})"
    group = export.groups.get(name)
    if group is None:
        ledger = Ledger(bounds, RecordProbe(), policy=options.leaks)
        group = export.groups[name] = Group(name, ledger)
        group._wake = RUNTIME.soon  # type: ignore[method-assign]  # a group knows of no process
        group._name = export.names.claim(name, group)
    elif options.leaks not in (group._ledger.leaks.policy, DEFAULTS.leaks):
        raise ValueError(
            f"leaks={options.leaks!r}: the group {name!r} has another LeakPolicy already; give every "
            "instrument() of one group the same"
        )
    return group


def _different(known: Instrumented | Grouped, options: Options) -> list[str]:
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


def _again(known: Instrumented | Grouped, engine: Engine, options: Options) -> Instrumentation:
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
    return [snapshot for export in RUNTIME.exports.all() for snapshot in export.snapshots()]
