"""What the queries answer to series whose every number is known, asked by promtool."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from pool_exporter.catalogue.vocabularies import VOCABULARIES
from pool_exporter.monitoring.dashboards import Words
from tests.monitoring.dashboards.grafana import choosing, substituted
from tests.monitoring.dashboards.test_queries import panel_of
from tests.support import need_tool

P = "sqlalchemy_pool_"
HOUR = "0x240"
"""An hour of 0, a sample each 15 seconds."""
QUIET = {
    '{state="used"} connections': "3x240",
    '{phase="queued"} pending_requests': HOUR,
    '{phase="connecting"} pending_requests': HOUR,
    " connections_max": "10x240",
    '{kind="idle"} overdue_uses': HOUR,
    '{kind="busy"} overdue_uses': HOUR,
    " failed_acquires_total": HOUR,
    " leaks_collected_total": HOUR,
}
"""A pool of which nothing is wrong, by labels and metric."""
LOADED = {'{state="used"} connections': "10x240", '{phase="queued"} pending_requests': "4x240"}
CASES: dict[str, tuple[tuple[str, str, str], dict[str, str], str, list[float]]] = {
    # (dashboard, panel, legend of the query), series by labels and metric, time of the question, answers
    "the most in a day is that of the largest number of processes": (
        ("fleet", "Database servers", "Most in a day"),
        {
            **{
                f'{{instance="{one}",server="db"}} info': f"1x{life}"
                for one, life in (("a", 960), ("b", 240), ("c", 240))
            },
            **{
                f'{{instance="{one}"}} connections_max': f"10x{life}"
                for one, life in (("a", 960), ("b", 240), ("c", 240))
            },
        },
        "3h",
        [30],
    ),
    "what may be opened is that of the processes of now": (
        ("fleet", "Database servers", "May open"),
        {
            **{
                f'{{instance="{one}",server="db"}} info': f"1x{life}"
                for one, life in (("a", 960), ("b", 240))
            },
            **{
                f'{{instance="{one}"}} connections_max': f"10x{life}"
                for one, life in (("a", 960), ("b", 240))
            },
        },
        "3h",
        [10],
    ),
    "the fullest process counts, with connects that hang": (
        ("fleet", "Fullest pool", "fullest"),
        {
            '{instance="a",state="used"} connections': "6x240",
            '{instance="a",phase="connecting"} pending_requests': "3x240",
            '{instance="a",phase="queued"} pending_requests': "7x240",
            '{instance="a"} connections_max': "10x240",
            '{instance="b",state="used"} connections': "1x240",
            '{instance="b",phase="connecting"} pending_requests': HOUR,
            '{instance="b"} connections_max': "10x240",
        },
        "1h",
        [0.9],
    ),
    "a pool in reduced mode, which does not know who waits, has a fullness all the same": (
        ("fleet", "Fullest pool", "fullest"),
        {'{state="used"} connections': "6x240", " connections_max": "10x240"},
        "1h",
        [0.6],
    ),
    "a pool without a limit has no fullness": (
        ("fleet", "Fullest pool", "fullest"),
        {'{state="used"} connections': "6x240", '{phase="connecting"} pending_requests': HOUR},
        "1h",
        [],
    ),
    "one of four acquires that ended timed out": (
        ("pool", "Acquires that timed out", "timeouts"),
        {
            " timeouts_total": "0+1x240",
            " checkouts_total": "0+2x240",
            " cancelled_acquires_total": "0+1x240",
            " failed_acquires_total": HOUR,
        },
        "1h",
        [0.25],
    ),
    "without acquires there is no share": (
        ("pool", "Acquires that timed out", "timeouts"),
        {
            f" {name}_total": HOUR
            for name in ("timeouts", "checkouts", "cancelled_acquires", "failed_acquires")
        },
        "1h",
        [],
    ),
    "where no acquire succeeds the wait is that of who waits longest": (
        ("pool", "Wait, p99", "p99"),
        {
            '{le="1"} wait_seconds_bucket': "5x240",
            '{le="+Inf"} wait_seconds_bucket': "5x240",
            " oldest_pending_seconds": "7x240",
        },
        "1h",
        [7],
    ),
    "a process that is gone is not shown as now": (
        ("pool", "Callers queued", "queued"),
        {'{phase="queued"} pending_requests': "4x240"},
        "2h",
        [],
    ),
    "leaks of the time shown are counted over a restart": (
        ("leak-hunt", "Who holds connections", "Leaks"),
        {'{owner="GET /x"} owner_leaks_total': "0x40 3x40 0x40 2x120"},
        "1h",
        [5],
    ),
    "leaks are counted one by one where scrapes fail or come late": (
        ("leak-hunt", "Who holds connections", "Leaks"),
        {'{owner="GET /x"} owner_leaks_total': "_x40 0 0 0 0 _ _ _ 3 _ _ _ _ _ 8 8 _ 10 10x200"},
        "1h",
        [10],
    ),
    "leaks of an owner that leaked before its first scrape are counted": (
        ("leak-hunt", "Who holds connections", "Leaks"),
        {
            '{owner="GET /x"} owner_leaks_total': "_x100 2x20 3x200",
            '{owner="GET /y"} owner_leaks_total': "_x239 1",
            '{owner="GET /z"} owner_leaks_total': "0x40 5x20 6x60 0x10 1x200",
        },
        "1h",
        [11],
    ),
    "leaks are not counted again after a scrape that failed just where the time shown begins": (
        ("leak-hunt", "Who holds connections", "Leaks"),
        {'{owner="GET /x"} owner_leaks_total': "0x40 7x196 stale stale stale 7x300"},
        "2h",
        [0],
    ),
    "leaks of several processes are counted together": (
        ("leak-hunt", "Who holds connections", "Leaks"),
        {
            f'{{instance="{one}",owner="GET /x"}} owner_leaks_total': f"_x{born} 0x3 1 2x300"
            for one, born in (("a", 20), ("b", 100), ("c", 230))
        },
        "1h",
        [6],
    ),
    "leaks before the time shown are not": (
        ("leak-hunt", "Who holds connections", "Leaks"),
        {'{owner="GET /x"} owner_leaks_total': "0x40 3x920"},
        "3h",
        [0],
    ),
    "what does not come back is what is out and not explained": (
        ("leak-hunt", "Mean uses against explained uses", "do not come back"),
        {" occupancy_seconds_total": "0+60x240", " use_seconds_sum": "0+15x240"},
        "1h",
        [3],
    ),
    **{
        f"a pool is {state}": (
            ("fleet", "State of each pool", "{{job}} {{pool}}"),
            {**QUIET, **trouble},
            "50m",
            [number],
        )
        for state, number, trouble in (
            ("fine", 0, {}),
            ("fine with one long statement", 0, {'{kind="busy"} overdue_uses': "1x240"}),
            ("nearly full", 1, {'{state="used"} connections': "8x240"}),
            ("full by load", 2, LOADED),
            (
                "full by load for as long as a rate looks back, where callers queue now and then",
                2,
                {**LOADED, '{phase="queued"} pending_requests': "0x196 4 0x40"},
            ),
            ("nearly full after that", 1, {**LOADED, '{phase="queued"} pending_requests': "0x190 4 0x40"}),
            ("full by load with long statements", 2, {**LOADED, '{kind="busy"} overdue_uses': "10x240"}),
            ("failing", 3, {" failed_acquires_total": "0+1x240"}),
            ("leaking", 4, {'{kind="idle"} overdue_uses': "1x240"}),
            ("leaking into the collector", 4, {" leaks_collected_total": "0+1x240"}),
            ("full by a leak", 5, {**LOADED, '{kind="idle"} overdue_uses': "5x240"}),
        )
    },
}


def series_of(key: str) -> str:
    """Return a series by its labels and metric, with those that every series has unless it has others."""
    labels, _, metric = key.rpartition(" ")
    found = {"job": "shop", "instance": "a", "pool": "main"}
    found |= dict(part.split("=", 1) for part in labels.strip("{}").split(",") if part)
    inner = ",".join(f'{name}="{value.strip(chr(34))}"' for name, value in found.items())
    return f"{P}{metric}{{{inner}}}"


def judged(
    directory: Path, interval: str, series: dict[str, str], expr: str, moment: str, expected: list[float]
) -> None:
    """Let promtool compare the sum of an expression's answer with what is expected: one number, or nothing."""
    samples = [{"labels": "{}", "value": value} for value in expected]
    test = {
        "interval": interval,
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {"expr": f"round(sum({expr}), 0.001)", "eval_time": moment, "exp_samples": samples}
        ],
    }
    file = directory / "test.yml"
    content = {
        "evaluation_interval": "5s",
        "rule_files": [],
        "tests": [test],
    }  # samples are read as far as that
    file.write_text(json.dumps(content))
    promtool = need_tool("promtool", "prometheus")
    done = subprocess.run([promtool, "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr + expr


@pytest.mark.parametrize("name", CASES)
def test_a_query_answers(tmp_path: Path, name: str) -> None:
    """Each query gives exactly what its panel says that it shows."""
    (which, title, legend), series, moment, expected = CASES[name]
    words = Words(VOCABULARIES["prometheus"])
    (target,) = (one for one in panel_of(which, title, words)["targets"] if one["legendFormat"] == legend)
    expr = substituted(target["expr"], choosing(words), step=15, seconds=3600, scrape=15)
    judged(
        tmp_path,
        "15s",
        {series_of(key): values for key, values in series.items()},
        expr,
        moment,
        expected,
    )


@pytest.mark.parametrize(
    ("moment", "state"),
    [("10m45s", 2), ("10m55s", 2), ("11m5s", 0)],
    ids=["within a rate's window", "between two evaluations", "after the next"],
)
def test_a_queue_is_remembered_where_rules_are_evaluated_more_seldom_than_scrapes(
    tmp_path: Path, moment: str, state: int
) -> None:
    """With a scrape each 5 s and an evaluation each 30 s, callers that queued at 10:30 count until 11:00."""
    words = Words(recorded=True)
    (target,) = panel_of("fleet", "State of each pool", words)["targets"]
    expr = substituted(target["expr"], choosing(words), step=5, seconds=3600, scrape=5)
    labels = 'job="shop",pool="main"'
    series = {
        f'job_pool:{P}pending_requests:sum{{{labels},phase="queued"}}': "4x21 0x40",
        f'job_pool:{P}connections:sum{{{labels},state="used"}}': "3x60",
    }
    judged(tmp_path, "30s", series, expr, moment, [state])
