"""Check on promtool that a place that alerts are grouped by has servers of its own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pool_exporter.monitoring.rules import RuleOptions, rule_file
from tests.support import need_tool

ALERT = "SQLAlchemyPoolCapacityAboveDatabase"
GROUPS = ("recording", "presence", "dashboards", "alerts", "opt_in_alerts")


def series(cluster: str, instance: str, most: int) -> list[dict[str, str]]:
    """Return what a pool of 'db:5432' in a cluster is scraped as."""
    own = f'cluster="{cluster}",job="shop",instance="{instance}",pool="orders"'
    return [
        {"series": f"sqlalchemy_pool_connections_max{{{own}}}", "values": f"{most}x120"},
        {"series": f'sqlalchemy_pool_info{{{own},server="db:5432"}}', "values": "1x120"},
    ]


def check(directory: Path, scraped: list[dict[str, str]], expected: list[dict[str, Any]]) -> None:
    """Let promtool judge what the rules for clusters make of these series."""
    options = RuleOptions(group_by=("cluster", "job", "pool"), database_limit=100)
    for which in ("default", "opt-in"):
        (directory / f"{which}.yml").write_text(json.dumps(rule_file(options, which)))  # type: ignore[arg-type]  # both are choices
    unit = {
        "rule_files": ["default.yml", "opt-in.yml"],
        "evaluation_interval": "30s",
        "group_eval_order": [f"sqlalchemy_pool_{name}" for name in GROUPS],
        "tests": [
            {
                "interval": "15s",
                "input_series": scraped,
                "alert_rule_test": [{"eval_time": "25m", "alertname": ALERT, "exp_alerts": expected}],
            }
        ],
    }
    (directory / "unit.yml").write_text(json.dumps(unit))
    promtool = need_tool("promtool", "prometheus")
    done = subprocess.run(
        [promtool, "test", "rules", "unit.yml"], check=False, capture_output=True, text=True, cwd=directory
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("most", [60, 90])
def test_servers_of_one_name_in_two_clusters_are_two(most: int, tmp_path: Path) -> None:
    """What fits each of them is not added up, though both are called db:5432."""
    check(tmp_path, [*series("eu", "a:9464", most), *series("us", "a:9464", most)], [])


def test_the_server_of_one_cluster_is_named_with_it(tmp_path: Path) -> None:
    """The alert has the cluster, and lists the pools that are there and no others."""
    expected = {
        "exp_labels": {"cluster": "eu", "server": "db:5432", "severity": "warning"},
        "exp_annotations": {
            "summary": "Pools may open more connections than their database allows.",
            "description": "The pools may open 120 connections to db:5432, at the largest number of instances of late, "
            "which is more than 95% of what it allows. The largest: eu shop orders (120).",
            "runbook_url": f"https://runbooks.example.com/pool_exporter/{ALERT}.md",
            "dashboard_url": "https://grafana.example.com/d/sqlalchemy-pool",
        },
    }
    scraped = [*series("eu", "a:9464", 60), *series("eu", "b:9464", 60), *series("us", "a:9464", 60)]
    check(tmp_path, scraped, [expected])
