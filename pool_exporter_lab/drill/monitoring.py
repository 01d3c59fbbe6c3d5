"""Run a Prometheus with the project's rules and an Alertmanager that notifies the drill's receiver."""

from __future__ import annotations

import contextlib
import json
import os
import urllib.parse
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from pool_exporter_lab.drill.asking import answers, ask_json
from pool_exporter_lab.drill.processes import HOST, free_port, process_of, until_answering
from pool_exporter_lab.drill.scale import LOOKBACK_SECONDS, RESEND_SECONDS, SCRAPE_SECONDS

_PROMETHEUS = """\
global:
  scrape_interval: {scrape}
  scrape_timeout: {scrape}
  evaluation_interval: {scrape}
rule_files: ["{directory}/rules/*.yml"]
alerting:
  alertmanagers:
    - static_configs:
        - targets: ["{alertmanager}"]
scrape_configs:
  - job_name: drill
    file_sd_configs:
      - files: ["{directory}/targets/*.json"]
"""

_ALERTMANAGER = """\
route:
  receiver: drill
  group_by: [alertname, job, pool]
  group_wait: 0s
  group_interval: 1s
  repeat_interval: 1h
receivers:
  - name: drill
    webhook_configs:
      - url: {url}
        send_resolved: true
"""


class Prometheus:
    """A running Prometheus: what it scrapes, and what it says."""

    def __init__(self, port: int, directory: Path) -> None:
        self.port = port
        self._targets = directory / "targets"

    def scrape(self, job: str, ports: Sequence[int]) -> None:
        """Scrape these ports from now on under the label `job`; none to end it."""
        path = self._targets / f"{job}.json"
        if not ports:
            path.unlink(missing_ok=True)
            return
        groups = [{"targets": [f"{HOST}:{port}" for port in ports], "labels": {"job": job}}]
        unfinished = path.with_suffix(".tmp")
        unfinished.write_text(json.dumps(groups))
        unfinished.replace(path)  # Prometheus must not read half a file

    async def query(self, expression: str) -> list[tuple[Mapping[str, str], float]]:
        """Return labels and value of each series of an instant query; raise `Unanswered` if it fails."""
        target = f"/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        data = (await ask_json(self.port, target))["data"]
        return [(series["metric"], float(series["value"][1])) for series in data["result"]]


@contextlib.asynccontextmanager
async def prometheus(
    program: Path, directory: Path, rules: Mapping[str, str], alertmanager_port: int, port: int = 0
) -> AsyncIterator[Prometheus]:
    """Run Prometheus with rule files, by name; its targets are told later."""
    for name in ("rules", "targets"):
        (directory / name).mkdir()
    for name, text in rules.items():
        (directory / "rules" / f"{name}.yml").write_text(text)
    configuration = directory / "prometheus.yml"
    configuration.write_text(
        _PROMETHEUS.format(
            scrape=_duration(SCRAPE_SECONDS), directory=directory, alertmanager=f"{HOST}:{alertmanager_port}"
        )
    )
    port = free_port(port, argument="prometheus-port")
    command = (
        program,
        f"--config.file={configuration}",
        f"--storage.tsdb.path={directory / 'prometheus-data'}",
        f"--web.listen-address={HOST}:{port}",
        f"--query.lookback-delta={_duration(LOOKBACK_SECONDS)}",
        f"--rules.alert.resend-delay={_duration(RESEND_SECONDS)}",
    )
    log = directory / "prometheus.log"
    async with process_of(command, log, environment=_environment(directory)) as process:
        await until_answering("prometheus", process, log, lambda: answers(port, "/-/ready"))
        yield Prometheus(port, directory)


@contextlib.asynccontextmanager
async def alertmanager(
    program: Path, directory: Path, url: str, inhibitions: str = "", port: int = 0
) -> AsyncIterator[int]:
    """Run Alertmanager that sends all it gets to `url` at once; yield its port."""
    configuration = directory / "alertmanager.yml"
    configuration.write_text(_ALERTMANAGER.format(url=url) + inhibitions)
    port = free_port(port, argument="alertmanager-port")
    command = (
        program,
        f"--config.file={configuration}",
        f"--storage.path={directory / 'alertmanager-data'}",
        f"--web.listen-address={HOST}:{port}",
        "--cluster.listen-address=",
    )
    log = directory / "alertmanager.log"
    async with process_of(command, log, environment=_environment(directory)) as process:
        await until_answering("prometheus-alertmanager", process, log, lambda: answers(port, "/-/ready"))
        yield port


def _environment(directory: Path) -> Mapping[str, str]:
    return {"LC_ALL": "C", "PATH": os.defpath, "HOME": str(directory)}


def _duration(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"
