"""Play every kind of trouble before a real Prometheus at once, and keep what it saw.

Each scenario of the demo is an application of its own: first healthy, then restarted in the same place
and in trouble. The names of the applications give nothing away.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pool_exporter.catalogue import CATALOGUE
from pool_exporter.catalogue.vocabularies import OPENTELEMETRY, PROMETHEUS, VOCABULARIES, Vocabulary
from pool_exporter.monitoring.rules import RuleOptions, rendered
from tests.lab.demo.running import a_demo, ending, until
from tests.prometheus import Prometheus, running_prometheus
from tests.support import free_port

HEALTHY_SECONDS = 20
TROUBLE_SECONDS = 72
TIME_SCALE = 20
JOBS = {
    "healthy": "search",
    "load": "orders",
    "slow": "statistics",
    "leak": "checkout",
    "stream": "support",
    "collected": "billing",
    "restart": "accounts",
    "stale": "archive",
}
"""The application that each scenario is played by."""
POOLS = {job: f"{job}-db" for job in JOBS.values()}
"""What the one pool of each application is called."""
STATUS_PAGE = "status-page.html"
"""The status page of the application that leaks, as it was at the end of the play."""
ODD, EMPTY, GONE = "oddities", "empty", "gone"


@dataclass(frozen=True, slots=True)
class Play:
    """Hold when one application was healthy and when it was in trouble, as Unix times."""

    healthy_from: float
    healthy_to: float
    trouble_from: float
    trouble_to: float


def configuration(targets: dict[str, str], vocabulary: Vocabulary, rules: Path) -> str:
    """Return a configuration that scrapes targets, whose metrics get the names of a vocabulary."""
    static = [
        {"targets": [address], "labels": {"job": job, "instance": f"{job}-1"}}
        for job, address in targets.items()
    ]
    renamed = list(_as_a_collector_writes()) if vocabulary is OPENTELEMETRY else []
    return json.dumps(
        {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(rules)],
            "scrape_configs": [
                {"job_name": "x", "static_configs": static, "metric_relabel_configs": renamed}
            ],
        }
    )


def _as_a_collector_writes() -> Iterator[dict[str, Any]]:
    """Yield the rules that rename what is scraped to what an OpenTelemetry Collector would write."""
    for metric in CATALOGUE:
        if metric.in_prometheus:
            yield {
                "source_labels": ["__name__"],
                "regex": PROMETHEUS.metric(metric.name)
                + ("(_bucket|_count|_sum)" if metric.kind == "histogram" else "()"),
                "target_label": "__name__",
                "replacement": OPENTELEMETRY.metric(metric.name) + "$1",
            }
    for label in sorted({"pool", *(label for metric in CATALOGUE for label in metric.labels)}):
        yield {"action": "labelmap", "regex": label, "replacement": OPENTELEMETRY.label(label)}
        yield {"action": "labeldrop", "regex": label}


def prometheus(directory: Path, configuration: str) -> contextlib.AbstractContextManager[Prometheus]:
    """Run a Prometheus that answers the pages of a browser too."""
    return running_prometheus(directory, configuration, "--web.cors.origin=.*")


def play(directory: Path) -> None:
    """Play everything once; leave Prometheus' data and the times in a directory."""
    directory.mkdir(exist_ok=True)
    ports = {job: free_port() for job in (*JOBS.values(), ODD, EMPTY)}
    with contextlib.ExitStack() as stack:
        nobody = stack.enter_context(socket.socket())  # bound, so that nobody else listens there
        nobody.bind(("127.0.0.1", 0))
        ports[GONE] = nobody.getsockname()[1]
        targets = {job: f"127.0.0.1:{port}" for job, port in ports.items()}
        odd = [sys.executable, "-m", "tests.monitoring.dashboards.oddities", str(ports[ODD])]
        stack.enter_context(ending(subprocess.Popen(odd, text=True)))
        nothing = [sys.executable, "-m", "http.server", str(ports[EMPTY]), "--bind", "127.0.0.1"]
        (directory / "nothing").mkdir(exist_ok=True)
        (directory / "nothing" / "metrics").write_text("")
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        stack.enter_context(ending(subprocess.Popen(nothing, cwd=directory / "nothing", **quiet)))
        for vocabulary in VOCABULARIES.values():
            own = directory / vocabulary.name
            own.mkdir(exist_ok=True)
            (own / "rules.yml").write_text(
                rendered(RuleOptions(vocabulary=vocabulary.name, time_scale=TIME_SCALE))
            )
            stack.enter_context(prometheus(own, configuration(targets, vocabulary, own / "rules.yml")))
        started = {job: _started("healthy", job, ports[job], stack) for job in JOBS.values()}
        healthy = {job: _first_load(one) for job, one in started.items()}
        _sleep_until(max(healthy.values()) + HEALTHY_SECONDS)
        plays = {}
        for scenario, job in JOBS.items():
            healthy_to = time.time()
            if scenario != "healthy":
                started[job].stop()
                started[job] = _started(scenario, job, ports[job], stack)
            plays[job] = (healthy[job], healthy_to)
        troubled = {
            job: _first_load(started[job]) if job != "search" else time.time() for job in JOBS.values()
        }
        _sleep_until(max(troubled.values()) + TROUBLE_SECONDS)
        end = time.time()
        with urllib.request.urlopen(f"http://127.0.0.1:{ports[JOBS['leak']]}/pools/", timeout=30) as page:
            (directory / STATUS_PAGE).write_bytes(page.read())
    times = {job: asdict(Play(*plays[job], troubled[job], end)) for job in JOBS.values()}
    (directory / "plays.json").write_text(json.dumps(times))


@dataclass(frozen=True, slots=True)
class Started:
    """Hold a running demo, and the file that it prints to: nobody would empty a pipe."""

    process: subprocess.Popen[str]
    printed: Path

    def stop(self) -> None:
        """End the demo as a deploy does."""
        self.process.terminate()
        self.process.wait()


def _started(scenario: str, job: str, port: int, stack: contextlib.ExitStack) -> Started:
    demo = stack.enter_context(
        a_demo(f"{POOLS[job]}-")
    )  # the directory is what the database's server is called
    printed = demo.directory / "printed"
    arguments = ("--scenario", scenario, "--port", str(port), "--pool", POOLS[job])
    with printed.open("w") as output:
        process = stack.enter_context(ending(demo.start(*arguments, stdout=output, stderr=output)))
    return Started(process, printed)


def _first_load(started: Started) -> float:
    """Return the time when the load begins, which is when the demo prints its first line."""
    try:
        until(lambda: "overdue" in started.printed.read_text(), f"the load begins: {started.printed}")
    except AssertionError as error:
        raise AssertionError(f"{error}; it printed {started.printed.read_text()!r}") from error
    return time.time()


def _sleep_until(moment: float) -> None:
    """Let the play go on: here the servers' own time is the subject."""
    time.sleep(max(0.0, moment - time.time()))


def plays(directory: Path) -> dict[str, Play]:
    """Return when everything was, by application."""
    return {job: Play(**times) for job, times in json.loads((directory / "plays.json").read_text()).items()}


@contextlib.contextmanager
def replayed(played: Path, vocabulary: str, directory: Path) -> Iterator[Prometheus]:
    """Run a Prometheus that scrapes nothing, on a copy of what one saw of the play."""
    shutil.copytree(played / vocabulary / "data", directory / "data", ignore=shutil.ignore_patterns("lock"))
    with prometheus(directory, "{}") as running:
        yield running


if __name__ == "__main__":
    play(Path(sys.argv[1]))
