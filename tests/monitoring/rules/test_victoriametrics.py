"""Check what docs/alerts.md says of VictoriaMetrics, on the real thing."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from pool_exporter.monitoring.rules import PREFIX, RuleOptions, rule_file
from tests.lab.demo.running import until
from tests.prometheus import running_victoriametrics
from tests.support import need_tool

WITHOUT_KEEPING = {"*.keep_firing_for": 0}


def rules_in(directory: Path, options: RuleOptions) -> list[str]:
    """Write both rule files and return vmalert's arguments for them."""
    arguments = []
    for which in ("default", "opt-in"):
        path = directory / f"{which}.yml"
        path.write_text(json.dumps(rule_file(options, which)))  # type: ignore[arg-type]  # a choice
        arguments.append(f"-rule={path}")
    return arguments


def dry_run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Let vmalert read the rules and no more."""
    vmalert = need_tool("vmalert", "victoria-metrics")
    return subprocess.run([vmalert, *arguments, "-dryRun"], check=False, capture_output=True, text=True)


@pytest.mark.parametrize("vocabulary", ["prometheus", "opentelemetry"])
def test_vmalert_accepts_the_rules_without_keep_firing_for(vocabulary: str, tmp_path: Path) -> None:
    """Debian's vmalert reads every expression and every template."""
    done = dry_run(rules_in(tmp_path, RuleOptions(vocabulary=vocabulary, settings=WITHOUT_KEEPING)))
    assert done.returncode == 0, done.stderr


def test_a_mistake_in_a_template_would_be_seen(tmp_path: Path) -> None:
    """What the test above passes is read for real."""
    (arguments, _) = rules_in(tmp_path, RuleOptions(settings=WITHOUT_KEEPING))
    path = Path(arguments.partition("=")[2])
    path.write_text(path.read_text().replace("$labels.pool", "$label.pool"))
    assert dry_run([arguments]).returncode != 0


class Server:
    """A running VictoriaMetrics or vmalert, over HTTP."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str) -> bytes:
        """Return the body of an answer."""
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return bytes(answer.read())

    def take(self, lines: list[str]) -> None:
        """Import lines of the text format with timestamps."""
        request = urllib.request.Request(f"{self.url}/api/v1/import/prometheus", "\n".join(lines).encode())
        urllib.request.urlopen(request, timeout=60).close()

    def firing(self) -> dict[str, str]:
        """Return the description of each alert that fires at vmalert, by its name without the prefix."""
        found = json.loads(self.get("/api/v1/alerts"))["data"]["alerts"] or []  # null where there is none
        return {
            one["name"].removeprefix(PREFIX): one["annotations"]["description"]
            for one in found
            if one["state"] == "firing"
        }


def a_leaking_pool() -> list[str]:
    """Return samples of a pool that leaks have filled, for a minute before now and two minutes after."""
    own = 'job="shop",instance="a:9464",pool="orders"'
    values = {
        f"sqlalchemy_pool_connections_max{{{own}}}": 10,
        f"sqlalchemy_pool_processes{{{own}}}": 1,
        f'sqlalchemy_pool_connections{{{own},state="used"}}': 10,
        f'sqlalchemy_pool_pending_requests{{{own},phase="queued"}}': 4,
        f'sqlalchemy_pool_overdue_uses{{{own},kind="idle_in_transaction"}}': 8,
        f'sqlalchemy_pool_overdue_uses{{{own},kind="orphaned"}}': 0,
        f'sqlalchemy_pool_owner_connections{{{own},owner="POST /chat/{{id}}"}}': 8,
        f'sqlalchemy_pool_owner_leaks_total{{{own},owner="POST /chat/{{id}}"}}': 8,
    }
    now = int(time.time())
    return [
        f"{series} {value} {moment * 1000}"
        for moment in range(now - 60, now + 120)
        for series, value in values.items()
    ]


def test_a_leak_fires_in_vmalert_with_its_owner(tmp_path: Path) -> None:
    """Recording rules write to VictoriaMetrics, alerts read from there, and templates ask it who holds."""
    options = RuleOptions(settings=WITHOUT_KEEPING, time_scale=20)
    keeping = (f"-storageDataPath={tmp_path / 'data'}", "-search.latencyOffset=0s")
    with running_victoriametrics(tmp_path, "victoria-metrics", *keeping) as store_url:
        store = Server(store_url)
        store.take(a_leaking_pool())
        arguments = [
            *rules_in(tmp_path, options),
            f"-datasource.url={store.url}",
            f"-remoteWrite.url={store.url}",
            "-remoteWrite.flushInterval=100ms",
            f"-notifier.url={store.url}",  # this version needs one; what it answers does not matter
        ]
        with running_victoriametrics(tmp_path, "vmalert", *arguments) as url:
            vmalert = Server(url)
            description = until(lambda: vmalert.firing().get("ExhaustedByLeak"), "the leak fires")
            others = vmalert.firing()
    assert description.startswith("1 instance(s): pool orders of job shop is full, callers queue")
    listed = "Owners that have leaked, with all connections that they hold now: POST /chat/{id} (8)."
    assert f"a:9464 (80%). {listed}" in description
    assert "ExhaustedByLoad" not in others
