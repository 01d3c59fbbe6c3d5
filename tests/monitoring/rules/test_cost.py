"""Check how many series and samples `pool-exporter cost` predicts."""

from __future__ import annotations

import re

import pytest

from pool_exporter.catalogue import CATALOGUE
from pool_exporter.cli import main
from pool_exporter.monitoring.rules import RECORDINGS
from pool_exporter.monitoring.rules.series import recorded_series
from tests.support import ROOT


def test_cost_multiplies_the_series_of_a_pool(capsys: pytest.CaptureFixture[str]) -> None:
    """1,000 instances with 4 pools of 140 series, every 15 s."""
    assert main(["cost", "--pods", "1000", "--pools", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "series of a pool:     140",
        "series in all:        560,000",
        "samples a second:     37,333.3",
    ]
    recorded = recorded_series(1000, 4)
    assert lines[3].startswith(f"recorded, at most:    {recorded.series:,} more by the rules")
    assert lines[4] == f"samples a second:     {recorded.samples_a_second:,.1f} of these"


def test_what_is_recorded_is_counted_by_level_and_label() -> None:
    """Each instance and pool has every series of its level; each pool those of a job, with their labels' values."""
    table = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `((\w+):sqlalchemy_pool_(\w+):\w+)` \| (\w*) \|$", table, flags=re.MULTILINE)
    assert len(rows) == len(RECORDINGS)
    of_label = {
        metric.labels[0]: len(metric.values) for metric in CATALOGUE if metric.values and metric.in_prometheus
    }
    buckets = {metric.name: len(metric.buckets) + 1 for metric in CATALOGUE if metric.kind == "histogram"}
    overdue = next(metric for metric in CATALOGUE if metric.name == "overdue_uses")
    of_label |= {"": 1, "server": 1, "kind": len(overdue.values)}  # other metrics have other kinds
    levels: dict[str, int] = {}
    for _, level, metric, label in rows:
        values = buckets[metric.removesuffix("_bucket")] if label == "le" else of_label[label]
        levels[level] = levels.get(level, 0) + values
    for pods, pools in ((1, 1), (7, 3)):
        assert recorded_series(pods, pools).series == (
            levels["instance_pool"] * pods * pools + levels["instance"] * pods + levels["job_pool"] * pools
        )


def test_what_is_recorded_is_written_at_its_groups_pace() -> None:
    """No series is written more often than every 30 s, and most of them are not written less often."""
    series, samples = recorded_series(1000, 4)
    assert series / 60 < samples < series / 30


def test_cost_knows_owners_detail_and_interval(capsys: pytest.CaptureFixture[str]) -> None:
    """Three series for each owner, the others are one more; basic detail has none."""
    main(["cost", "--pods", "1", "--pools", "1", "--owners", "30", "--interval", "1m"])
    assert "series in all:        203" in capsys.readouterr().out
    main(["cost", "--pods", "2", "--pools", "1", "--owners", "30", "--detail", "basic", "--interval", "1m"])
    assert "series in all:        120\nsamples a second:     2.0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--pods", "0", "--pools", "1"), "--pods 0: out of range; from 1 to"),
        (("--pods", "1", "--pools", "-1"), "--pools -1: out of range"),
        (("--pods", "1", "--pools", "1", "--interval", "15"), "--interval '15': not a duration"),
        (("--pods", "1", "--pools", "1", "--interval", "10ms"), "--interval '10ms': out of range"),
    ],
)
def test_cost_refuses_what_makes_no_sense(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line names the option, the value and the range."""
    assert main(["cost", *arguments]) == 2
    assert said in capsys.readouterr().err
