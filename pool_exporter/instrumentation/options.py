"""Hold what a call of `instrument()` asks for, checked."""

from __future__ import annotations

import enum
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import REGISTRY, CollectorRegistry

from pool_exporter.capture.callers.attribution import Attribution, checked_attribution
from pool_exporter.catalogue import Detail, resolve_buckets
from pool_exporter.ledger.leak_policy import LeakPolicy, checked_policy
from pool_exporter.support.text import MAX_NAME_LENGTH

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider


class Options(NamedTuple):
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


DEFAULTS = Options(
    name=None,
    registry=REGISTRY,
    buckets=None,
    attribution=Attribution(),
    leaks=LeakPolicy(),
    statements=True,
    detail="full",
)


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
) -> Options:
    """Return the options of a call. Raises TypeError or ValueError for what cannot be right."""
    options = Options(
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


class Default(enum.Enum):
    """Stands for what is not spelled out."""

    DEFAULT = "prometheus_client's REGISTRY, or none where a meter_provider is given"

    def __repr__(self) -> str:
        return self.name


DEFAULT = Default.DEFAULT
"""As an argument `registry`: prometheus_client's REGISTRY, or none where a meter_provider is given."""


def checked_name(name: object, argument: str = "name") -> str | None:
    """Return a valid `pool` label, None if none was asked for."""
    if name is None:
        return None
    if not isinstance(name, str):
        raise TypeError(f"{argument}={name!r}: expected text for the pool label, such as 'orders'")
    if not name.strip():
        raise ValueError(
            f"{argument}={name!r}: is empty; give the pool a name such as 'orders', or leave {argument} out"
        )
    if len(name) > MAX_NAME_LENGTH:
        raise ValueError(
            f"{argument}={name[:20]!r}… has {len(name)} characters; a pool label has at most {MAX_NAME_LENGTH}"
        )
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{argument}={name!r}: cannot be written as UTF-8; leave out lone surrogates"
        ) from error
    return name


def checked_flag(argument: str, value: object) -> bool:
    """Return a boolean argument."""
    if not isinstance(value, bool):
        raise TypeError(f"{argument}={value!r}: expected True or False")
    return value


def checked_detail(detail: object) -> Detail:
    """Return a level of detail that exists."""
    if detail == "full":
        return "full"
    if detail == "basic":
        return "basic"
    raise ValueError(f"detail={detail!r}: expected 'full' or 'basic'")


def checked_meter_provider(provider: object) -> MeterProvider | None:
    """Return an OpenTelemetry meter provider to export to, None to export nothing there.

    Raises `ImportError` where OpenTelemetry's API is not installed, `TypeError` for what is no provider.
    """
    if provider is None:
        return None
    api = sys.modules.get("opentelemetry.metrics")  # a provider comes of an import of it
    if api is None and find_spec("opentelemetry") is None:
        raise ImportError(
            f"meter_provider={provider!r}: OpenTelemetry's API is not installed; "
            "pip install 'pool_exporter[opentelemetry]'"
        )
    if api is None or not isinstance(provider, api.MeterProvider):
        raise TypeError(
            f"meter_provider={provider!r}: expected an OpenTelemetry MeterProvider, such as "
            "opentelemetry.metrics.get_meter_provider() returns"
        )
    given: MeterProvider = provider
    return given


def checked_registry(registry: object, meter_provider: object = None) -> CollectorRegistry | None:
    """Return a registry to export to, None to export nothing.

    Not spelled out, it is the default one, and none where there is a meter provider.
    """
    if registry is DEFAULT:
        return REGISTRY if meter_provider is None else None
    if registry is None or isinstance(registry, CollectorRegistry):
        return registry
    raise TypeError(
        f"registry={registry!r}: expected a prometheus_client CollectorRegistry, or None to export nothing"
    )


def not_an_engine(engine: object) -> TypeError:
    """Return the error for an `engine` argument that is none."""
    kind = f"{type(engine).__module__}.{type(engine).__qualname__}"
    return TypeError(
        f"engine is a {kind}: expected an AsyncEngine or Engine; pass what create_async_engine() or "
        "create_engine() returned, not a session, a session factory, a connection or a URL"
    )
