"""See who else emits what we emit, or serves it from the registry that we serve it from.

OpenTelemetry's API does not tell; this looks at private attributes of its SDK and of its Prometheus
exporter, and finds nothing where they have changed. A test says so when they do.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

INSTRUMENTATIONS = "opentelemetry.instrumentation."
"""What the scopes of OpenTelemetry's own instrumentations begin with."""


def real_provider(provider: MeterProvider) -> MeterProvider:
    """Return the provider that a proxy stands for, once it was set; else the same."""
    real: MeterProvider | None = getattr(provider, "_real_meter_provider", None)
    return provider if real is None else real


def stands_for_none(provider: MeterProvider) -> bool:
    """Tell whether a provider is a proxy of one that was not set yet, which drops what is recorded."""
    return getattr(provider, "_real_meter_provider", provider) is None


def reader_count(provider: MeterProvider) -> int | None:
    """Return how many readers collect what a provider is told, None where that cannot be seen."""
    readers = getattr(
        getattr(real_provider(provider), "_measurement_consumer", None), "_reader_storages", None
    )
    return None if readers is None else len(readers)


def other_scopes(provider: MeterProvider, names: Iterable[str], own: str) -> dict[str, str]:
    """Return the names among `names` that another scope has an instrument of, each with that scope.

    OpenTelemetry's own instrumentations of other clients than SQLAlchemy measure pools of their own.
    """
    meters = getattr(real_provider(provider), "_meters", None)
    if not isinstance(meters, dict):
        return {}
    wanted = frozenset(names)
    found = {}
    for scope, meter in tuple(meters.items()):
        name = str(getattr(scope, "name", ""))
        if name == own or (name.startswith(INSTRUMENTATIONS) and "sqlalchemy" not in name.lower()):
            continue
        instruments: dict[str, Any] = getattr(meter, "_instrument_id_instrument", {})
        for instrument in tuple(instruments.values()):
            if getattr(instrument, "name", None) in wanted:
                found[instrument.name] = name
    return found


def serves_opentelemetry(registry: CollectorRegistry) -> bool:
    """Tell whether a registry has the collector of OpenTelemetry's PrometheusMetricReader."""
    collectors = tuple(getattr(registry, "_collector_to_names", ()))
    return any(type(one).__module__.startswith("opentelemetry.exporter.prometheus") for one in collectors)
