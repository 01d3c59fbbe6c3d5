"""Play whole scenarios through the rules: nobody is woken for an innocent one, and leak and load are told apart."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pool_exporter.catalogue import prometheus_metrics
from pool_exporter.monitoring.rules import RuleOptions, rule_file
from tests.monitoring.rules import scenarios
from tests.monitoring.rules.scenarios import INNOCENT, Scenario, leak, mixture, overload
from tests.monitoring.rules.simulation import series_of
from tests.support import need_tool

GROUPS = ("recording", "presence", "dashboards", "reasons", "alerts", "opt_in_alerts")
AWAKE = 'alertstate="firing",severity!="info"'


def answers_of(scenario: Scenario, directory: Path, query: str, options: RuleOptions | None = None) -> str:
    """Return what the rules make of a scenario: the answer to a query at its end, in promtool's words."""
    options = options or RuleOptions()
    for which in ("default", "opt-in"):
        (directory / f"{which}.yml").write_text(json.dumps(rule_file(options, which)))  # type: ignore[arg-type]  # both are choices
    interval = f"{scenario.interval:g}s"
    unit: dict[str, Any] = {
        "rule_files": ["default.yml", "opt-in.yml"],
        "evaluation_interval": "30s",
        "group_eval_order": [f"sqlalchemy_pool_{name}" for name in GROUPS],
        "tests": [
            {
                "interval": interval,
                "input_series": series_of(scenario.lives, scenario.seconds, scenario.interval),
                "promql_expr_test": [
                    {
                        "expr": query,
                        "eval_time": f"{scenario.seconds:g}s",
                        "exp_samples": [{"labels": '{never="seen"}', "value": 1}],
                    }
                ],
            }
        ],
    }
    (directory / "unit.yml").write_text(json.dumps(unit))
    promtool = need_tool("promtool", "prometheus")
    done = subprocess.run(
        [promtool, "test", "rules", "unit.yml"], check=False, capture_output=True, text=True, cwd=directory
    )
    found = re.search(r"got:(.*)", done.stdout + done.stderr)
    assert found is not None, done.stdout + done.stderr
    return found[1].strip()


def alerts_of(scenario: Scenario, directory: Path, options: RuleOptions | None = None) -> set[str]:
    """Return the alerts above info that have fired at any moment of a scenario."""
    query = f"count by (alertname) (count_over_time(ALERTS{{{AWAKE}}}[3h]))"
    return set(
        re.findall(r'alertname="SQLAlchemyPool(\w+)"', answers_of(scenario, directory, query, options))
    )


@pytest.mark.parametrize("case", INNOCENT, ids=lambda case: case.__name__)
def test_nobody_is_woken_for_an_innocent_case(case: Callable[[], Scenario], tmp_path: Path) -> None:
    """No alert above info fires at any moment, of the default ones or of those that are opted into."""
    assert alerts_of(case(), tmp_path) == set()


@pytest.mark.parametrize(
    ("case", "setting", "alert"),
    [
        (scenarios.cron_in_phase, {"ExhaustedByLoad.mean": 1e-6}, "ExhaustedByLoad"),
        (
            scenarios.pool_of_size_one,
            {"ExhaustedByLoad.for": 0, "ExhaustedByLoad.mean": 1e-6},
            "ExhaustedByLoad",
        ),
        (scenarios.cold_start, {"DatabaseUnreachable.for": 0}, "DatabaseUnreachable"),
        (scenarios.low_traffic, {"DatabaseUnreachable.for": 0}, "DatabaseUnreachable"),
        (scenarios.low_traffic, {"Timeouts.timeouts": 1}, "Timeouts"),
        (
            scenarios.rolling_restart,
            {f"ConnectionChurn.{n}": v for n, v in (("for", 0), ("share", 0.01), ("young", 60), ("rate", 0))},
            "ConnectionChurn",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_an_innocent_case_needs_the_threshold_that_spares_it(
    case: Callable[[], Scenario], setting: dict[str, float], alert: str, tmp_path: Path
) -> None:
    """With the threshold taken away somebody is woken: the case is near enough to be worth playing."""
    assert alert in alerts_of(case(), tmp_path, RuleOptions(settings=setting))


def test_a_leak_is_called_a_leak(tmp_path: Path) -> None:
    """It is noticed while the pool still works, and never called load when that is full."""
    found = alerts_of(leak(), tmp_path)
    assert found >= {"LeakIdle", "ExhaustedByLeak"}
    assert "ExhaustedByLoad" not in found


def test_load_is_called_load(tmp_path: Path) -> None:
    """A pool that work fills is not called leaking."""
    found = alerts_of(overload(), tmp_path)
    assert "ExhaustedByLoad" in found
    assert found.isdisjoint({"LeakIdle", "ExhaustedByLeak", "DatabaseUnreachable"})


def test_leak_and_load_never_fire_together(tmp_path: Path) -> None:
    """At no moment does an instance meet the conditions of both, however the share of leaks moves; each it does meet."""
    full = 'ALERTS{alertname=~"SQLAlchemyPoolExhausted.*",alertstate="firing"}'
    both = f"count_over_time((count by (pool) ({full}) > 1)[2h:30s])"
    query = f'count by (alertname) (count_over_time({full}[2h])) or label_replace({both}, "together", "yes", "", "")'
    options = RuleOptions(settings={"*.keep_firing_for": 0})
    found = [answers_of(mixture(seed), tmp_path, query, options) for seed in range(6)]
    assert not any("together" in answer for answer in found)
    assert any("ExhaustedByLeak" in answer for answer in found)
    assert any("ExhaustedByLoad" in answer for answer in found)


def test_the_simulation_writes_metrics_of_the_catalogue() -> None:
    """Every series that the scenarios have could come from the library."""
    names = {metric.prometheus_name for metric in prometheus_metrics()}
    for series in series_of(leak().lives, 60, 15):
        name = re.sub(r"_(sum|count)$", "", series["series"].partition("{")[0])
        assert name == "up" or name in names
