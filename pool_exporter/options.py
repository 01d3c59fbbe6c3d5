"""Hold what a call of `instrument()` asks for, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import REGISTRY, CollectorRegistry

from pool_exporter.arguments import (
    checked_detail,
    checked_flag,
    checked_meter_provider,
    checked_name,
    checked_registry,
)
from pool_exporter.capture.attribution import Attribution, checked_attribution
from pool_exporter.catalogue import Detail, resolve_buckets
from pool_exporter.leaks import LeakPolicy, checked_policy

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
