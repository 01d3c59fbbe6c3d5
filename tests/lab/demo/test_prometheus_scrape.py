"""A real Prometheus scrapes the running demo and answers the questions an operator asks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.demo.running import a_demo, ending
from tests.prometheus import EVERY_SECOND, Prometheus, running_prometheus

WAIT_P99 = "histogram_quantile(0.99, sum by (le) (rate(sqlalchemy_pool_wait_seconds_bucket[10s])))"


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Run the demo and a Prometheus that scrapes it once a second."""
    directory: Path = tmp_path_factory.mktemp("prometheus")
    with a_demo() as demo, ending(demo.start("--port", "0")) as process:
        assert process.stdout is not None
        target = process.stdout.readline().split()[-1].removeprefix("http://").removesuffix("/metrics")
        with running_prometheus(directory, EVERY_SECOND.format(job="demo", target=target)) as server:
            yield server


def test_prometheus_finds_the_demo_up(prometheus: Prometheus) -> None:
    """The scrape succeeds."""
    assert prometheus.above_zero('up{job="demo"}') == 1


def test_the_scrape_is_openmetrics(prometheus: Prometheus) -> None:
    """Prometheus asks for OpenMetrics and gets it: a counter's family there goes without `_total`."""
    prometheus.above_zero('up{job="demo"}')
    families = {entry["metric"]: entry["type"] for entry in prometheus.get("targets/metadata")}
    assert families["sqlalchemy_pool_timeouts"] == "counter"
    assert families["sqlalchemy_pool_wait_seconds"] == "histogram"


def test_prometheus_knows_how_many_connections_are_used(prometheus: Prometheus) -> None:
    """The connections in use are between 1 and the pool's maximum."""
    assert 1 <= prometheus.above_zero('sqlalchemy_pool_connections{pool="demo",state="used"}') <= 10
    assert prometheus.value("sqlalchemy_pool_connections_max") == 10


def test_prometheus_knows_how_long_callers_wait(prometheus: Prometheus) -> None:
    """The 99th percentile of the waits is above zero and within the pool's timeout, a bucket aside."""
    assert 0 < prometheus.above_zero(WAIT_P99) <= 5


def test_prometheus_knows_the_timeouts(prometheus: Prometheus) -> None:
    """Callers time out, and the counter says how many."""
    count = prometheus.above_zero("sqlalchemy_pool_timeouts_total")
    assert count == int(count)
