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

PROMETHEUS_EXPORTER = "opentelemetry.exporter.prometheus"
"""The module of the reader that serves Prometheus, and of its collector."""
OTHER_CLIENTS = ("redis", "valkey", "mongo", "cassandra", "elasticsearch", "memcache", "dynamodb")
"""What the scopes of clients that measure pools of their own have in their names."""
INSTRUMENTATIONS = "opentelemetry.instrumentation."
"""What the scopes of OpenTelemetry's own instrumentations begin with."""


def real_provider(provider: MeterProvider) -> MeterProvider:
    """Return the provider that a proxy stands for, once it was set; else the same."""
    real: MeterProvider | None = getattr(provider, "_real_meter_provider", None)
    return provider if real is None else real


def stands_for_none(provider: MeterProvider) -> bool:
    """Tell whether a provider is a proxy of one that was not set yet, which drops what is recorded."""
    return getattr(provider, "_real_meter_provider", provider) is None


def has_sole_reader(provider: MeterProvider) -> bool:
    """Tell whether one reader takes what a provider is told, and for one recipient: several may scrape Prometheus's."""
    readers = getattr(getattr(real_provider(provider), "_measurement_consumer", None), "_reader_storages", ())
    return len(readers) == 1 and not any(_is_scraped(reader) for reader in tuple(readers))


def _is_scraped(reader: object) -> bool:
    return type(reader).__module__.startswith(PROMETHEUS_EXPORTER)


def other_scopes(provider: MeterProvider, names: Iterable[str], own: str) -> dict[str, str]:
    """Return the names among `names` that another scope has an instrument of, each with that scope.

    Other clients than SQLAlchemy measure pools of their own.
    """
    meters = getattr(real_provider(provider), "_meters", None)
    if not isinstance(meters, dict):
        return {}
    wanted = frozenset(names)
    found = {}
    for scope, meter in tuple(meters.items()):
        name = str(getattr(scope, "name", ""))
        if name == own or _measures_another_client(name.lower()):
            continue
        instruments: dict[str, Any] = getattr(meter, "_instrument_id_instrument", {})
        for instrument in tuple(instruments.values()):
            if getattr(instrument, "name", None) in wanted:
                found[instrument.name] = name
    return found


def _measures_another_client(scope: str) -> bool:
    if scope.startswith(INSTRUMENTATIONS):
        return "sqlalchemy" not in scope
    return any(client in scope for client in OTHER_CLIENTS)


def serves_opentelemetry(registry: CollectorRegistry) -> bool:
    """Tell whether a registry has the collector of OpenTelemetry's PrometheusMetricReader."""
    collectors = tuple(getattr(registry, "_collector_to_names", ()))
    return any(_is_scraped(one) for one in collectors)
