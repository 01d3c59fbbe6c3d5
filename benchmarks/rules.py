"""Measure what the recording and alerting rules cost a real Prometheus, for fleets of instances.

An exposition that the library made of `--pools` pools is served for each instance, its counters
rising from scrape to scrape; a Prometheus of its own scrapes all of them every 15 s and evaluates
both rule files every 30 s. Series that a rule looks back over for longer than the run are written
into its storage before, so that every window is full. For each number of instances:
- seconds that each group of rules took, the median and the longest of its evaluations in the
  second half of the run (`prometheus_rule_group_last_duration_seconds`, which rules are evaluated
  with while the scrapes go on)
- series: scraped, recorded per instance, and recorded per job and pool, which is what a dashboard
  of the fleet reads in place of the scraped ones

Needs Debian's `prometheus`. `--time-scale` divides every time, for a quick look at small sizes.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _common import arguments, budget, machine, positive, report, table
from _fleet import JOB, Fleet, long_windows, recorded_exposition, write_history

from pool_exporter.monitoring.rules import RuleOptions, rule_file

SCRAPE_SECONDS = 15.0
KINDS = {
    "scraped": "sqlalchemy_pool_.+",
    "recorded an instance": "instance.*:.+",
    "recorded a job and pool": "job_pool:.+",
}
"""What is counted, by the names of the series that were there in the second half of a run."""
WHICH = ("default", "opt-in")
MAX_SECONDS = 2.0
MAX_GROWTH = 1.5
"""How much more a pool may cost in the largest fleet than in the smallest."""


class Prometheus:
    """A running Prometheus, over its HTTP interface."""

    def __init__(self, address: str) -> None:
        self._address = address

    def value(self, query: str) -> float:
        """Return the value of a query with one series, 0 without any."""
        result = self._get("query?" + urllib.parse.urlencode({"query": query}))["result"]
        return float(result[0]["value"][1]) if result else 0.0

    def durations(self) -> dict[str, tuple[str, float]]:
        """Return when each group was evaluated last, and for how long."""
        return {
            group["name"]: (group["lastEvaluation"], float(group["evaluationTime"]))
            for group in self._get("rules")["groups"]
        }

    def faults(self) -> list[str]:
        """Return the errors of rules."""
        return [
            f"{rule['name']}: {rule['lastError']}"
            for group in self._get("rules")["groups"]
            for rule in group["rules"]
            if rule.get("lastError")
        ]

    def ready(self) -> bool:
        """Tell whether it answers."""
        try:
            self._get("rules")
        except (urllib.error.URLError, ConnectionError):
            return False
        return True

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://{self._address}/api/v1/{path}", timeout=60) as answer:
            return json.load(answer)["data"]


def configuration(directory: Path, options: RuleOptions, address: str, instances: int) -> Path:
    """Write Prometheus' configuration and the rules, and return its path."""
    for which in WHICH:
        (directory / f"{which}.json").write_text(json.dumps(rule_file(options, which)))
    interval = f"{int(SCRAPE_SECONDS / options.time_scale * 1000)}ms"
    targets = [
        {"targets": [address], "labels": {"instance": f"i-{number}", "__metrics_path__": f"/{number}"}}
        for number in range(instances)
    ]
    path = directory / "prometheus.json"  # JSON is YAML
    path.write_text(
        json.dumps(
            {
                "global": {"scrape_interval": interval, "scrape_timeout": interval},
                "rule_files": [f"{which}.json" for which in WHICH],
                "scrape_configs": [{"job_name": JOB, "static_configs": targets}],
            }
        )
    )
    return path


@contextlib.contextmanager
def running(directory: Path, configured: Path) -> Iterator[Prometheus]:
    """Run Prometheus until it is left."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(
            [
                tool("prometheus"),
                f"--config.file={configured}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        prometheus = Prometheus(address)
        while not prometheus.ready():
            if process.poll() is not None:
                sys.exit("Prometheus ended:\n" + (directory / "log").read_text()[-2000:])
            time.sleep(0.1)
        yield prometheus
    finally:
        process.terminate()
        process.wait()


def tool(name: str) -> str:
    """Return a program's path."""
    path = shutil.which(name)
    if path is None:
        sys.exit(f"{name} is missing; install it with: apt-get install prometheus")
    return path


def watched(prometheus: Prometheus, seconds: float, pause: float) -> dict[str, list[float]]:
    """Return the durations of each group's evaluations in the second half of some seconds."""
    begun = time.monotonic()
    seen: dict[tuple[str, str], float] = {}
    while (passed := time.monotonic() - begun) < seconds:
        if passed >= seconds / 2:
            for group, (moment, duration) in prometheus.durations().items():
                if duration > 0:
                    seen[group, moment] = duration
        time.sleep(pause)
    found: dict[str, list[float]] = {}
    for (group, _), duration in sorted(seen.items()):
        found.setdefault(group, []).append(duration)
    return found


def measured(instances: int, pools: int, seconds: float, scale: float) -> dict[str, Any]:
    """Return what one fleet costs."""
    options = RuleOptions(time_scale=scale)
    every, lasts = SCRAPE_SECONDS / scale, seconds / scale
    exposition = recorded_exposition(pools)
    fleet = Fleet(exposition, rounds=int(lasts / every) + 10)
    expressions = [
        rule["expr"]
        for which in WHICH
        for group in rule_file(options, which)["groups"]
        for rule in group["rules"]
    ]
    with tempfile.TemporaryDirectory(prefix="rules-") as name, fleet.serving() as address:
        directory = Path(name)
        windows = long_windows(expressions, longer_than=lasts)
        history = directory / "history"
        samples = write_history(history, windows, exposition, instances, time.time(), every)
        if samples:
            subprocess.run(
                [
                    tool("promtool"),
                    "tsdb",
                    "create-blocks-from",
                    "openmetrics",
                    str(history),
                    str(directory / "data"),
                ],
                check=True,
                capture_output=True,
            )
        history.unlink()
        with running(directory, configuration(directory, options, address, instances)) as prometheus:
            durations = watched(prometheus, lasts, pause=min(5.0, every / 2))
            faults = prometheus.faults()
            series = {
                kind: prometheus.value(
                    f'count(last_over_time({{__name__=~"{names}"}}[{int(lasts * 500)}ms]))'
                )
                for kind, names in KINDS.items()
            }
    if faults:
        sys.exit("rules fail: " + "; ".join(faults))
    return {
        "instances": instances,
        "pools": instances * pools,
        "samples_before": samples,
        "series": series,
        "seconds": {
            group: {"median": statistics.median(taken), "longest": max(taken), "evaluations": len(taken)}
            for group, taken in durations.items()
        },
    }


def a_pool(fleet: dict[str, Any]) -> float:
    """Return the seconds that all groups together take for one pool, by their medians."""
    return float(sum(one["median"] for one in fleet["seconds"].values()) / fleet["pools"])


def text_of(fleets: list[dict[str, Any]]) -> str:
    """Return the tables."""
    groups = sorted({group for fleet in fleets for group in fleet["seconds"]})
    rows = [
        [
            f"{fleet['instances']:,} instances, {group}",
            f"{fleet['seconds'][group]['median']:.3f}",
            f"{fleet['seconds'][group]['longest']:.3f}",
        ]
        for fleet in fleets
        for group in groups
    ]
    kinds = list(fleets[0]["series"])
    series = [
        [f"{fleet['instances']:,} instances", *(f"{fleet['series'][kind]:,.0f}" for kind in kinds)]
        for fleet in fleets
    ]
    return "\n\n".join(
        (table(["seconds an evaluation", "median", "longest"], rows), table(["series", *kinds], series))
    )


def main() -> None:
    """Measure every fleet and print what was found."""
    parser = arguments(__doc__)
    parser.add_argument("--instances", type=positive, nargs="+", default=[250, 1000], metavar="N")
    parser.add_argument("--pools", type=positive, default=4, metavar="N", help="pools of an instance")
    parser.add_argument("--seconds", type=positive, default=600, help="that each fleet runs (default: 600)")
    parser.add_argument("--time-scale", type=positive, default=1, metavar="N", help="divides every time")
    given = parser.parse_args()
    found = machine()
    sizes = sorted(set(given.instances))
    fleets = [measured(size, given.pools, given.seconds, given.time_scale) for size in sizes]
    slowest = max(one["longest"] for one in fleets[-1]["seconds"].values())
    budgets = [budget(f"slowest group, {fleets[-1]['pools']:,} pools", slowest, MAX_SECONDS, "s")]
    if len(fleets) > 1:
        growth = a_pool(fleets[-1]) / a_pool(fleets[0])
        budgets.append(
            budget(
                f"a pool of {fleets[-1]['pools']:,} against one of {fleets[0]['pools']:,}",
                growth,
                MAX_GROWTH,
            )
        )
    result = {"program": "rules", "machine": found, "fleets": fleets, "budgets": budgets}
    report(result, text_of(fleets), as_json=given.as_json)


if __name__ == "__main__":
    main()
