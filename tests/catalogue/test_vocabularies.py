"""Check how the catalogue's names are spelled by the road on which they come to Prometheus."""

from __future__ import annotations

import pytest

from pool_exporter.catalogue import CATALOGUE
from pool_exporter.catalogue.vocabularies import OPENTELEMETRY, PROMETHEUS

EXPORTED = [metric for metric in CATALOGUE if metric.in_prometheus]


@pytest.mark.parametrize(
    ("name", "prometheus", "opentelemetry"),
    [
        ("connections", "sqlalchemy_pool_connections", "db_client_connection_count"),
        ("wait_seconds", "sqlalchemy_pool_wait_seconds", "db_client_connection_wait_time_seconds"),
        ("timeouts_total", "sqlalchemy_pool_timeouts_total", "db_client_connection_timeouts_total"),
        ("pending_requests", "sqlalchemy_pool_pending_requests", "sqlalchemy_pool_pending_requests"),
        (
            "occupancy_seconds_total",
            "sqlalchemy_pool_occupancy_seconds_total",
            "sqlalchemy_pool_occupancy_time_seconds_total",
        ),
        ("info", "sqlalchemy_pool_info", "sqlalchemy_pool_info_ratio"),
    ],
)
def test_a_metric_has_a_name_in_each_vocabulary(name: str, prometheus: str, opentelemetry: str) -> None:
    """Each spelling is the one that the source really writes."""
    assert PROMETHEUS.metric(name) == prometheus
    assert OPENTELEMETRY.metric(name) == opentelemetry


@pytest.mark.parametrize(
    ("label", "spelled"),
    [
        ("pool", "db_client_connection_pool_name"),
        ("state", "db_client_connection_state"),
        ("error", "error_type"),
        ("owner", "sqlalchemy_pool_owner"),
        ("phase", "sqlalchemy_pool_phase"),
        ("job", "job"),
    ],
)
def test_a_label_has_a_name_in_each_vocabulary(label: str, spelled: str) -> None:
    """A label becomes the attribute that the conventions have, with underscores; a target's own stay."""
    assert PROMETHEUS.label(label) == label
    assert OPENTELEMETRY.label(label) == spelled


def test_names_of_one_vocabulary_are_distinct() -> None:
    """No two metrics of /metrics become one on the other road."""
    names = [OPENTELEMETRY.metric(metric.name) for metric in EXPORTED]
    assert len(set(names)) == len(names)


def test_what_is_not_in_a_vocabulary_is_an_error() -> None:
    """A rule cannot be written over what its source does not have."""
    with pytest.raises(KeyError, match="OpenTelemetry only"):
        PROMETHEUS.metric("idle_min")
    with pytest.raises(KeyError, match="no_such"):
        OPENTELEMETRY.metric("no_such")
