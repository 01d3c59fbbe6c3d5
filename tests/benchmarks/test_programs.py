"""Run each benchmark program, as small as it goes: that it runs and what it says, not how fast."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import ROOT, need_tool

BENCHMARKS = ROOT / "benchmarks"
DEADLINE_SECONDS = 120


def run(program: str, *arguments: str, exit_code: int = 0) -> str:
    """Return what a program prints; fail on another exit code or anything on its stderr."""
    process = subprocess.run(
        [sys.executable, str(BENCHMARKS / program), *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert (process.returncode, process.stderr) == (exit_code, "")
    return process.stdout


def result_of(program: str, *arguments: str, exit_code: int = 0) -> Any:
    """Return a program's JSON, every number in it finite."""
    result = json.loads(run(program, *arguments, "--json", exit_code=exit_code))
    assert result["program"] == program.removesuffix(".py")
    assert result["machine"]["cores"] >= 1
    assert all(math.isfinite(number) for number in numbers_in(result))
    for one in result["budgets"]:
        assert one["holds"] is (one["value"] <= one["limit"])
    return result


def numbers_in(value: Any) -> Iterator[float]:
    """Yield every number at any depth."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from numbers_in(one)
    elif isinstance(value, (int, float)):
        yield value


def test_every_program_is_run_here_and_says_what_it_measures() -> None:
    """Each program of the directory has a docstring that says it measures something, and a test below."""
    programs = {path.name for path in BENCHMARKS.glob("[!_]*.py")}
    assert programs == {
        "drift.py",
        "import_time.py",
        "overhead.py",
        "rules.py",
        "scrape.py",
        "soak.py",
        "tenants.py",
    }
    for name in programs:
        assert (BENCHMARKS / name).read_text().startswith('"""')


def test_overhead_gives_a_ratio_for_every_arm_and_shape() -> None:
    """Both shapes of cycle have all nine arms, the bare one as its own measure."""
    result = result_of("overhead.py", "--rounds", "2", "--cycles", "20", "--engines", "1")
    assert set(result["shapes"]) == {"checkout", "statement"}
    for arms in result["shapes"].values():
        assert len(arms) == 9
        assert arms["bare"]["ratio"] == {"median": 1.0, "q1": 1.0, "q3": 1.0}
        assert all(arm["microseconds"]["median"] > 0 for arm in arms.values())
    assert len(result["budgets"]) == 5


def test_scrape_gives_costs_and_the_loop_for_every_number_of_pools() -> None:
    """Costs, bytes, series, stalls and memory are there for each number of pools asked for."""
    result = result_of("scrape.py", "--pools", "1", "3", "--scrapes", "1")
    assert set(result["pools"]) == {"1", "3"}
    for pools, one in result["pools"].items():
        assert one["series_a_pool"] == int(one["series_a_pool"]) > 0
        assert one["kib_a_pool"] > 0
        assert len(one["loop"]) == 6
        plain = one["scrape"]["metrics_app"]["bytes"]
        assert plain > one["series_a_pool"] * int(pools)
        assert plain > one["scrape"]["metrics_app, gzip"]["bytes"] > 0
    assert result["use"]["bytes_a_use"] > 0


def test_soak_samples_memory_to_the_last_checkout_and_balances_the_books() -> None:
    """Every checkout asked for is made and counted, memory is sampled on the way, the laws hold."""
    result = result_of("soak.py", "--checkouts", "500")
    assert result["samples"][-1]["checkouts"] == 500
    assert len(result["samples"]) == 11
    assert all(one["traced_bytes"] > 0 and one["resident_kib"] > 0 for one in result["samples"])
    assert result["counted"]["checkouts"] >= 500
    assert result["counted"]["statements"] == 5
    assert result["counted"]["cancelled_acquires"] == 1
    assert result["imbalances"] == []


def test_soak_fails_where_memory_grows_by_more_than_the_bound() -> None:
    """A bound that cannot be kept makes the exit code 1, and the text says so."""
    assert "DOES NOT HOLD" in run("soak.py", "--checkouts", "50", "--resident-bound", "-1000000", exit_code=1)


def test_import_time_gives_a_ratio_for_every_arm() -> None:
    """The import that everything is measured against has the ratio 1."""
    result = result_of("import_time.py", "--rounds", "1")
    assert len(result["arms"]) == 4
    assert result["arms"]["sqlalchemy + prometheus_client"]["ratio"]["median"] == 1.0
    assert all(arm["milliseconds"]["median"] > 0 for arm in result["arms"].values())


@pytest.mark.parametrize("program", ["import_time.py", "overhead.py"])
def test_a_program_refuses_a_count_that_is_not_positive(program: str) -> None:
    """An option that makes no sense ends with argparse's code and says why."""
    process = subprocess.run(
        [sys.executable, str(BENCHMARKS / program), "--rounds", "0"],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert process.returncode == 2
    assert "0 is not positive" in process.stderr


def test_tenants_says_what_many_engines_cost() -> None:
    """Every way of naming, the group's scrape, what is left behind and each publication has a figure."""
    result = result_of("tenants.py", "--engines", "30", "--scrapes", "2")
    assert result["engines"] == 30
    assert result["instrument_microseconds"].keys() == {"own name", "same name", "group"}
    assert result["bytes_left_an_engine"].keys() == {"without us (control)", "group"}
    assert result["publish_milliseconds"].keys() == {"at rest", "a tenth used", "one used"}
    assert all(taken > 0 for taken in result["publish_milliseconds"].values())
    assert result["group_scrape"]["bytes"] > 10_000


def test_rules_are_evaluated_over_fleets_of_two_sizes() -> None:
    """Every group is evaluated without an error over full windows, and series grow with the instances."""
    need_tool("prometheus", "prometheus")
    need_tool("promtool", "prometheus")
    result = result_of("rules.py", "--instances", "2", "4", "--pools", "2", "--time-scale", "60")
    small, large = result["fleets"]
    for fleet in (small, large):
        assert fleet["pools"] == 2 * fleet["instances"]
        assert fleet["seconds"].keys() == {
            f"sqlalchemy_pool_{name}"
            for name in (
                "recording",
                "alerts",
                "opt_in_alerts",
                "dashboards",
                "fleet",
                "reasons",
                "wait_histogram",
                "use_histogram",
                "connect_histogram",
                "presence",
            )
        }
        assert all(one["longest"] >= one["median"] > 0 for one in fleet["seconds"].values())
        assert all(one["evaluations"] >= 1 for one in fleet["seconds"].values())
    assert large["samples_before"] > small["samples_before"] > 0
    assert large["series"]["scraped"] == 2 * small["series"]["scraped"]
    recorded = [fleet["series"]["recorded an instance"] for fleet in (small, large)]
    assert recorded[1] == pytest.approx(2 * recorded[0], rel=0.2)  # some are there only while a pool is full
    assert large["series"]["recorded a job and pool"] == small["series"]["recorded a job and pool"] > 0
    assert len(result["budgets"]) == 2


def test_drift_says_what_each_instrumentation_makes_of_each_fault() -> None:
    """Every scenario has the database's own numbers and ours, which are the same; others' may be nothing."""
    result = result_of("drift.py", "--times", "1")
    assert len(result["scenarios"]) == len(result["budgets"]) == 9
    for one in result["scenarios"].values():
        assert one["truth"]["used"] == 1
        assert one["pool_exporter"] == {**one["truth"], "drift": {"used": 0, "idle": 0}}
        assert {"truth", "pool_exporter", "opentelemetry"} == one.keys()


def test_drift_fails_where_ours_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without our numbers none of them is right: the exit code is 1, and the table says "nothing"."""
    monkeypatch.setenv("POOL_EXPORTER_DISABLED", "1")
    printed = run("drift.py", "--times", "1", exit_code=1)
    assert printed.count("DOES NOT HOLD") == 9
    assert "nothing" in printed
