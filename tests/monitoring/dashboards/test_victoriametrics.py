"""VictoriaMetrics answers every query of the dashboards too."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator

import pytest

from pool_exporter.monitoring.dashboards import FROM_RECORDED, NAMES, Words, dashboard
from tests.lab.demo.running import until
from tests.monitoring.dashboards.grafana import answer, asked, choosing
from tests.monitoring.dashboards.linter import panels_of
from tests.monitoring.dashboards.test_queries import Plays, Servers, whole
from tests.prometheus import running_victoriametrics

EVERYTHING = '{__name__=~"sqlalchemy_pool_.+|job_pool:.+|ALERTS"}[5m]'


@pytest.fixture(scope="module")
def victoria(servers: Servers, plays: Plays, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a VictoriaMetrics with what Prometheus scraped, and return its address."""
    directory = tmp_path_factory.mktemp("victoria")
    keeping = (f"-storageDataPath={directory / 'data'}", "-retentionPeriod=100y", "-search.latencyOffset=0s")
    with running_victoriametrics(directory, "victoria-metrics", *keeping) as url:
        data = asked(servers["prometheus"], "query", query=EVERYTHING, time=whole(plays)[1] + 1)
        lines = [
            {
                "metric": series["metric"],
                "values": [float(value) for _, value in series["values"]],
                "timestamps": [round(time * 1000) for time, _ in series["values"]],
            }
            for series in data["result"]
        ]
        body = "\n".join(map(json.dumps, lines)).encode()
        urllib.request.urlopen(f"{url}/api/v1/import", data=body, timeout=30).close()
        urllib.request.urlopen(f"{url}/internal/force_flush", timeout=30).close()
        until(
            lambda: asked(url, "query", query="sqlalchemy_pool_info", time=whole(plays)[1])["result"],
            "the data is there",
        )
        yield url


@pytest.mark.parametrize(
    ("name", "recorded"), [*((name, False) for name in NAMES), *((name, True) for name in FROM_RECORDED)]
)
def test_every_query_gives_something(victoria: str, plays: Plays, name: str, recorded: bool) -> None:
    """No query is refused, and none is without an answer."""
    start, end = (round(moment) for moment in whole(plays))
    words = Words(recorded=recorded)
    silent = [
        (panel["title"], target["legendFormat"])
        for panel in panels_of(dashboard(name, words))
        for target in panel["targets"]
        if not answer(victoria, target, choosing(words), start, end)
    ]
    assert silent == []
