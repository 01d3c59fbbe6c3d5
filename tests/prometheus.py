"""Run real monitoring servers for tests: Prometheus, Alertmanager, VictoriaMetrics; query Prometheus over HTTP."""

from __future__ import annotations

import contextlib
import json
import math
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.lab.demo.running import ending, until
from tests.support import free_port, need_tool

EVERY_SECOND = """\
global:
  scrape_interval: 1s
scrape_configs:
  - job_name: {job}
    static_configs:
      - targets: ["{target}"]
"""


class Prometheus:
    """A running Prometheus, over its HTTP interface."""

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


@contextlib.contextmanager
def running_prometheus(directory: Path, configuration: str, *options: str) -> Iterator[Prometheus]:
    """Run a Prometheus on the data in a directory; return when it answers."""
    program = need_tool("prometheus", "prometheus")
    (directory / "prometheus.yml").write_text(configuration)
    address = f"127.0.0.1:{free_port()}"
    command = [
        program,
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address={address}",
        *options,
    ]
    with _answering(command, directory / "log", f"http://{address}/api/v1/query?query=vector(1)"):
        yield Prometheus(f"http://{address}")


@contextlib.contextmanager
def running_alertmanager(directory: Path, configuration: Path) -> Iterator[str]:
    """Run an Alertmanager, alone; yield its address when it answers."""
    program = need_tool("prometheus-alertmanager", "prometheus-alertmanager")
    address = f"127.0.0.1:{free_port()}"
    command = [
        program,
        f"--config.file={configuration}",
        f"--storage.path={directory / 'data'}",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",
    ]
    with _answering(command, directory / "log", f"http://{address}/api/v2/alerts"):
        yield f"http://{address}"


@contextlib.contextmanager
def running_victoriametrics(directory: Path, name: str, *options: str) -> Iterator[str]:
    """Run one of VictoriaMetrics' programs; yield its address when it answers."""
    address = f"127.0.0.1:{free_port()}"
    command = [need_tool(name, "victoria-metrics"), f"-httpListenAddr={address}", *options]
    with _answering(command, directory / f"{name}.log", f"http://{address}/health"):
        yield f"http://{address}"


@contextlib.contextmanager
def _answering(command: list[str], log: Path, url: str) -> Iterator[None]:
    """Run a server that writes to a log, from when it answers at a URL."""

    def answers() -> bool:
        try:
            urllib.request.urlopen(url, timeout=10).close()
        except (urllib.error.URLError, ConnectionError):
            return False
        return True

    with log.open("a") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, text=True)
    with ending(process):
        until(answers, f"{Path(command[0]).name} answers")
        yield
