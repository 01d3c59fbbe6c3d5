"""A real Prometheus scrapes the running demo and answers the questions an operator asks."""

from __future__ import annotations

import json
import math
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.demo.running import a_demo, ending, until
from tests.support import free_port, need_tool

CONFIGURATION = """\
global:
  scrape_interval: 1s
scrape_configs:
  - job_name: demo
    static_configs:
      - targets: ["{target}"]
"""
WAIT_P99 = "histogram_quantile(0.99, sum by (le) (rate(sqlalchemy_pool_wait_seconds_bucket[10s])))"


class Prometheus:
    """A running Prometheus, asked over its HTTP interface."""

    def __init__(self, address: str) -> None:
        self.address = address

    def get(self, path: str, **parameters: str) -> Any:
        """Return the `data` of an answer; None while the server does not answer yet."""
        url = f"{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except (urllib.error.URLError, ConnectionError):
            return None

    def value(self, query: str) -> float:
        """Return the value of a query with one series; NaN while there is none."""
        data = self.get("query", query=query)
        if not data or not data["result"]:
            return math.nan
        (series,) = data["result"]
        return float(series["value"][1])

    def above_zero(self, query: str) -> float:
        """Wait for a query to give a finite value above zero, and return that."""

        def found() -> float | None:
            value = self.value(query)
            return value if 0 < value < math.inf else None

        return until(found, f"{query} > 0")


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Run the demo and a Prometheus that scrapes it once a second."""
    program = need_tool("prometheus", "prometheus")
    directory: Path = tmp_path_factory.mktemp("prometheus")
    with a_demo() as demo, ending(demo.start("--port", "0")) as process:
        assert process.stdout is not None
        target = process.stdout.readline().split()[-1].removeprefix("http://").removesuffix("/metrics")
        configuration = directory / "prometheus.yml"
        configuration.write_text(CONFIGURATION.format(target=target))
        address = f"127.0.0.1:{free_port()}"
        with (directory / "log").open("w") as log:
            server = subprocess.Popen(
                [
                    program,
                    f"--config.file={configuration}",
                    f"--storage.tsdb.path={directory / 'data'}",
                    f"--web.listen-address={address}",
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
            )
        with ending(server):
            yield Prometheus(f"http://{address}")


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
