"""Run promtool's unit tests of the alerts, and check that each alert has those it needs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from pool_exporter.monitoring.rules import ALERTS
from tests.support import ROOT, need_tool

UNITS = ROOT / "alerts" / "tests"
FILES = sorted(UNITS.glob("*.yml"))


def units_of(name: str) -> list[dict[str, Any]]:
    """Return the unit tests of an alert."""
    found: list[dict[str, Any]] = yaml.safe_load((UNITS / f"{name}.yml").read_text())["tests"]
    return found


def checks_of(test: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Return what a unit test expects of an alert."""
    return [check for check in test["alert_rule_test"] if check["alertname"] == name]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_promtool_passes(path: Path) -> None:
    """The rules do what the file says, for Prometheus names."""
    promtool = need_tool("promtool", "prometheus")
    done = subprocess.run(
        [promtool, "test", "rules", path.name], check=False, capture_output=True, text=True, cwd=UNITS
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_file() -> None:
    """No alert goes without unit tests."""
    assert {path.stem for path in FILES} == {alert.full_name for alert in ALERTS.values()}


@pytest.mark.parametrize("name", [alert.full_name for alert in ALERTS.values()])
def test_an_alert_has_the_unit_tests_that_it_needs(name: str) -> None:
    """It fires with all of its annotations, stays quiet beside an innocent, and knows restarts and gaps."""
    units = units_of(name)
    fires = [one for check in checks_of(units[0], name) for one in check["exp_alerts"]]
    assert units[0]["name"].startswith("fires")
    assert all(one["exp_annotations"].keys() >= {"summary", "description", "runbook_url"} for one in fires)
    assert fires
    quiet = [unit for unit in units if not any(check["exp_alerts"] for check in checks_of(unit, name))]
    assert any(re.match("is quiet", unit["name"]) for unit in quiet)
    assert any("restart" in unit["name"] for unit in units)
    gaps = [unit for unit in units if re.search("gap|scrape that fails", unit["name"])]
    assert any("stale _" in series["values"] for unit in gaps for series in unit["input_series"])


def test_every_unit_test_gives_the_order_of_the_groups() -> None:
    """Recording comes first; promtool takes the groups in any order otherwise."""
    for path in FILES:
        order = yaml.safe_load(path.read_text())["group_eval_order"]
        assert order[0] == "sqlalchemy_pool_recording", path.name
