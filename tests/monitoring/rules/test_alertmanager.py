"""Check inhibition and routes on a real Alertmanager."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pool_exporter.cli import main
from pool_exporter.monitoring.rules import ALERTS, PREFIX
from pool_exporter.monitoring.rules.inhibition import MUTES
from tests.prometheus import running_alertmanager
from tests.support import ROOT, need_tool

HERE = ROOT / "alerts"
EXAMPLE = HERE / "alertmanager.example.yml"
PAIRS = [(cause, symptom) for cause, symptoms in MUTES.items() for symptom in symptoms]


class Alertmanager:
    """A running Alertmanager, over its HTTP interface."""

    def __init__(self, address: str) -> None:
        self._url = f"{address}/api/v2/alerts"

    def fire(self, *alerts: dict[str, str]) -> None:
        """Post alerts by their labels."""
        body = json.dumps([{"labels": labels} for labels in alerts]).encode()
        request = urllib.request.Request(self._url, body, {"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=10).close()

    def state(self, **labels: str) -> str | None:
        """Return the state of the alert with these labels, None if it is not there yet."""
        with urllib.request.urlopen(self._url, timeout=10) as answer:
            alerts = json.load(answer)
        for alert in alerts:
            if labels.items() <= alert["labels"].items():
                return str(alert["status"]["state"])
        return None

    def settled(self, expected: str, **labels: str) -> str | None:
        """Return the state as soon as it is the expected one, the last one seen otherwise."""
        deadline = time.monotonic() + 10
        while (state := self.state(**labels)) != expected and time.monotonic() < deadline:
            time.sleep(0.05)
        return state


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alertmanager]:
    """Run an Alertmanager with the example's configuration."""
    with running_alertmanager(tmp_path_factory.mktemp("alertmanager"), EXAMPLE) as address:
        yield Alertmanager(address)


def test_a_cause_in_one_cluster_mutes_no_page_of_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the external label in the snippet, as its first lines say, clusters that share job and pool are apart."""
    assert main(["alerts", "--inhibit-rules", "--group-by", "cluster,job,pool"]) == 0
    configuration = yaml.safe_load(EXAMPLE.read_text()) | yaml.safe_load(capsys.readouterr().out)
    path = tmp_path / "alertmanager.yml"
    path.write_text(yaml.safe_dump(configuration))
    pool = {"job": "shop", "pool": "orders"}
    cause, symptom = (
        {"alertname": PREFIX + name, "severity": "critical", **pool}
        for name in ("DatabaseUnreachable", "Stuck")
    )
    with running_alertmanager(tmp_path, path) as address:
        running = Alertmanager(address)
        running.fire(*({**symptom, "cluster": name} for name in ("eu", "us")), {**cause, "cluster": "eu"})
        assert running.settled("suppressed", **symptom, cluster="eu") == "suppressed"
        assert running.settled("active", **symptom, cluster="us") == "active"


@pytest.mark.parametrize(("cause", "symptom"), PAIRS, ids=lambda name: name)
def test_a_cause_mutes_its_symptom_of_the_same_pool_alone(
    alertmanager: Alertmanager, cause: str, symptom: str
) -> None:
    """The symptom is suppressed beside its cause, and active for another pool, and so is the cause."""
    job = f"{cause}-{symptom}"  # each pair has a job of its own, so that the tests do not meet
    names = {"source": PREFIX + cause, "target": PREFIX + symptom}
    mine = {"job": job, "pool": "orders"}
    alertmanager.fire(
        {"alertname": names["target"], **mine, "severity": "warning"},
        {"alertname": names["target"], "job": job, "pool": "reports", "severity": "warning"},
        {"alertname": names["source"], **mine, "severity": "critical"},
    )
    assert alertmanager.settled("suppressed", alertname=names["target"], **mine) == "suppressed"
    assert alertmanager.settled("active", alertname=names["target"], job=job, pool="reports") == "active"
    assert alertmanager.settled("active", alertname=names["source"], **mine) == "active"


def test_a_symptom_without_its_cause_is_active(alertmanager: Alertmanager) -> None:
    """Nothing is muted by what does not fire."""
    alert = {"alertname": "SQLAlchemyPoolTimeouts", "job": "alone", "pool": "orders", "severity": "warning"}
    alertmanager.fire(alert)
    assert alertmanager.settled("active", **alert) == "active"


def test_the_example_is_a_valid_configuration() -> None:
    """Amtool finds no fault with it, and sees every inhibition."""
    amtool = need_tool("amtool", "prometheus-alertmanager")
    done = subprocess.run([amtool, "check-config", str(EXAMPLE)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    assert f"{len(MUTES)} inhibit rules" in done.stdout


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (["alertname=SQLAlchemyPoolExhaustedByLeak", "severity=critical"], "pager"),
        (["alertname=SQLAlchemyPoolLeakIdle", "severity=warning"], "tickets"),
        (["alertname=SQLAlchemyPoolSlowUses", "severity=info"], "nobody"),
        (["alertname=HostDown", "severity=critical"], "default"),
    ],
)
def test_the_example_routes_by_severity(labels: list[str], receiver: str) -> None:
    """Critical ones page, warnings are tickets, info goes nowhere; other alerts are left alone."""
    amtool = need_tool("amtool", "prometheus-alertmanager")
    done = subprocess.run(
        [
            amtool,
            "config",
            "routes",
            "test",
            f"--config.file={EXAMPLE}",
            *labels,
            "job=shop",
            "pool=orders",
        ],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout.strip()) == (0, receiver), done.stderr


def test_the_example_has_the_snippet_in_it() -> None:
    """What is to be pasted is what the example has."""
    snippet = yaml.safe_load((HERE / "inhibit_rules.yml").read_text())
    assert yaml.safe_load(EXAMPLE.read_text())["inhibit_rules"] == snippet["inhibit_rules"]


def test_inhibition_names_alerts_that_there_are() -> None:
    """A cause or symptom that is no alert would mute nothing, in silence; none mutes itself."""
    assert {name for pair in PAIRS for name in pair} <= ALERTS.keys()
    assert all(cause != symptom for cause, symptom in PAIRS)


def test_inhibition_follows_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    """`equal` has the labels that the alerts have, and what is off is not named."""
    assert (
        main(
            [
                *("alerts", "--inhibit-rules", "--vocabulary", "opentelemetry"),
                *("--group-by", "cluster,job,pool", "--off", "Stuck", "--off", "Timeouts"),
            ]
        )
        == 0
    )
    rules = yaml.safe_load(capsys.readouterr().out)["inhibit_rules"]
    assert all(rule["equal"] == ["cluster", "job", "db_client_connection_pool_name"] for rule in rules)
    assert "Stuck" not in str(rules)
    assert "Timeouts" not in str(rules)
    assert len(rules) == 3
