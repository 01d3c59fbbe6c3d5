"""Each scenario on a real PostgreSQL: the guilty are named everywhere, and nobody is who only works hard."""

from __future__ import annotations

import ast
import contextlib
import fcntl
import inspect
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from pool_exporter_lab.demo import faults
from tests.lab.demo.running import DEADLINE_SECONDS, a_demo, assert_laws, assert_nothing_left, ending

SECONDS = {
    "healthy": 4,
    "load": 8,
    "slow": 7,
    "leak": 14,
    "stream": 11,
    "collected": 5,
    "restart": 12,
    "stale": 10,
}
Report = dict[str, Any]


def site(route: str, function: str, call: str) -> dict[str, object]:
    """Return who acquires in a function of `faults`, on the line of its call of a method."""
    (defined,) = [
        node
        for node in ast.walk(ast.parse(inspect.getsource(faults)))
        if isinstance(node, ast.AsyncFunctionDef) and node.name == function
    ]
    (line,) = {
        node.lineno
        for node in ast.walk(defined)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == call
    }
    return {
        "owner": route,
        "function": f"{faults.__name__}:{function}",
        "filename": faults.__file__,
        "lineno": line,
    }


GUILTY = {
    "leak": site("POST /orders/{id}/refund", "refund_order", "connect"),
    "stream": site("POST /chat/stream", "get_current_user", "scalar"),
    "slow": site("GET /statistics", "show_statistics", "connect"),
    "collected": site("GET /orders/{id}/invoice", "print_invoice", "connect"),
}


def site_of(entry: dict[str, Any]) -> dict[str, object]:
    return {name: entry[name] for name in ("owner", "function", "filename", "lineno")}


def run_all() -> dict[str, Report]:
    """Run all scenarios at once, each of them cleanly; return what they report."""
    reports = {}
    with contextlib.ExitStack() as stack:
        demos = {name: stack.enter_context(a_demo()) for name in SECONDS}
        running = {
            name: stack.enter_context(
                ending(
                    demo.start("--scenario", name, "--seconds", str(SECONDS[name]), "--port", "0", "--json")
                )
            )
            for name, demo in demos.items()
        }
        for name, process in running.items():
            stdout, stderr = process.communicate(timeout=DEADLINE_SECONDS)
            assert (name, process.returncode, stderr) == (name, 0, "")
            assert_nothing_left(demos[name])
            reports[name] = json.loads(stdout)
    return reports


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Report]:
    """Return the report of each scenario; the first of several test processes runs them for all."""
    directory = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        directory = directory.parent
    kept = Path(directory, "scenarios.json")
    with Path(directory, "scenarios.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            kept.write_text(json.dumps(run_all()))
    found: dict[str, Report] = json.loads(kept.read_text())
    return found


@pytest.mark.parametrize("scenario", SECONDS)
def test_every_scenario_obeys_the_laws(reports: dict[str, Report], scenario: str) -> None:
    """The report says which scenario it was; the laws of counting hold and the library made no mistake."""
    report = reports[scenario]
    assert (report["scenario"], report["database"]) == (scenario, "postgresql")
    assert_laws(report["snapshot"])
    assert report["snapshot"]["checkouts"] > 10
    assert report["snapshot"]["telemetry_errors"] == report["snapshot"]["unaccounted_slots"] == 0
    assert report["timeouts"]["number"] == report["snapshot"]["timeouts"]


@pytest.mark.parametrize("scenario", ["leak", "stream"])
def test_held_names_route_function_file_and_line(reports: dict[str, Report], scenario: str) -> None:
    """At the end the guilty hold the whole pool, idle in transaction, and nobody else is overdue."""
    overdue = [one for one in reports[scenario]["held"] if one["overdue"] is not None]
    assert len(overdue) == 10
    for one in overdue:
        assert site_of(one) == GUILTY[scenario]
        assert one["overdue"] == "idle_in_transaction"
        assert one["quiet_seconds"] >= 2
    assert [one["age_seconds"] for one in overdue] == sorted(
        (one["age_seconds"] for one in overdue), reverse=True
    )


@pytest.mark.parametrize("scenario", ["leak", "stream"])
def test_the_log_names_route_function_file_and_line(reports: dict[str, Report], scenario: str) -> None:
    """Each leak was logged as suspected soon after the two seconds, with who and where."""
    leaks = reports[scenario]["leaks"]
    assert len(leaks) == 10
    for leak in leaks:
        assert site_of(leak) == GUILTY[scenario]
        assert (leak["event"], leak["kind"]) == ("suspected", "idle_in_transaction")
        assert 2 <= leak["age_seconds"] < 4


@pytest.mark.parametrize("scenario", ["leak", "stream"])
def test_the_timeouts_note_names_route_function_and_line(reports: dict[str, Report], scenario: str) -> None:
    """The exception of the last caller who got nothing says who holds how much and what they do."""
    timeouts = reports[scenario]["timeouts"]
    guilty = GUILTY[scenario]
    assert timeouts["number"] > 0
    if sys.version_info < (3, 11):
        assert timeouts["note"] is None
    else:
        place = f"{Path(guilty['filename']).name}:{guilty['lineno']}"
        assert (
            f"10 of 10 connections held by {guilty['owner']} ({guilty['function']}, {place})"
            in timeouts["note"]
        )
        assert "idle in transaction" in timeouts["note"]


@pytest.mark.parametrize("scenario", ["leak", "stream"])
def test_owner_leaks_name_the_route_alone(reports: dict[str, Report], scenario: str) -> None:
    """Each leak is counted for the route, once, and none for any other owner."""
    snapshot = reports[scenario]["snapshot"]
    owner = GUILTY[scenario]["owner"]
    leaks = snapshot["owner_leaks"]
    assert len(leaks) > 1
    assert {name: number for name, number in leaks.items() if number} == {owner: 10}
    assert snapshot["owner_connections"][owner] == 10
    assert snapshot["leaks_suspected"] == {"idle": 0, "idle_in_transaction": 10, "orphaned": 0}
    assert snapshot["overdue_uses"]["idle_in_transaction"] == 10


@pytest.mark.parametrize("scenario", ["healthy", "load", "slow"])
def test_work_is_not_suspected(reports: dict[str, Report], scenario: str) -> None:
    """Without a leak nothing is suspected, collected or counted for any owner, and nothing is logged."""
    report = reports[scenario]
    snapshot = report["snapshot"]
    assert snapshot["leaks_suspected"] == {"idle": 0, "idle_in_transaction": 0, "orphaned": 0}
    assert snapshot["leaks_collected"] == 0
    assert snapshot["owner_leaks"]
    assert set(snapshot["owner_leaks"].values()) == {0}
    assert report["leaks"] == []


def test_nobody_waits_where_all_is_healthy(reports: dict[str, Report]) -> None:
    """Short honest requests find a connection at once, and none is overdue."""
    snapshot = reports["healthy"]["snapshot"]
    assert snapshot["waits"] == snapshot["timeouts"] == sum(snapshot["overdue_uses"].values()) == 0
    assert reports["healthy"]["timeouts"] == {"number": 0, "note": None}


def test_load_fills_the_pool_and_makes_callers_time_out(reports: dict[str, Report]) -> None:
    """Callers queue and some time out, though no connection is overdue."""
    snapshot = reports["load"]["snapshot"]
    assert snapshot["waits"] > 0
    assert snapshot["timeouts"] > 0
    assert sum(snapshot["overdue_uses"].values()) == 0


def test_a_slow_statement_is_overdue_as_busy(reports: dict[str, Report]) -> None:
    """What runs one statement for long is overdue by no other kind, and named."""
    report = reports["slow"]
    overdue = [one for one in report["held"] if one["overdue"] is not None]
    assert overdue
    for one in overdue:
        assert site_of(one) == GUILTY["slow"]
        assert (one["overdue"], one["busy"], one["quiet_seconds"]) == ("busy", True, 0.0)
    assert report["snapshot"]["overdue_uses"]["busy"] == len(overdue)
    assert sum(report["snapshot"]["overdue_uses"].values()) == len(overdue)


def test_what_the_collector_takes_is_named(reports: dict[str, Report]) -> None:
    """Dropped connections are certain leaks of the route that dropped them, and cost the pool nothing."""
    report = reports["collected"]
    snapshot = report["snapshot"]
    owner = GUILTY["collected"]["owner"]
    leaks = snapshot["owner_leaks"]
    assert snapshot["leaks_collected"] > 5
    assert {name: number for name, number in leaks.items() if number} == {owner: snapshot["leaks_collected"]}
    assert report["leaks"]
    for leak in report["leaks"]:
        assert site_of(leak) == GUILTY["collected"]
        assert (leak["event"], leak["kind"]) == ("collected", None)
    assert snapshot["closes"]["lost"] == snapshot["leaks_collected"]
    assert snapshot["timeouts"] == 0


def test_a_restart_of_the_server_fails_acquires_and_ends_connections(reports: dict[str, Report]) -> None:
    """While it is down nobody connects, and what was open is found dead; afterwards the work goes on."""
    report = reports["restart"]
    snapshot = report["snapshot"]
    assert sum(snapshot["connect_errors"].values()) > 0
    assert snapshot["failed_acquires"] > 0
    assert sum(snapshot["disconnects"].values()) + snapshot["pre_ping_failures"] > 0
    assert snapshot["open"] > 0
    assert report["leaks"] == []


def test_stale_connections_are_found_dead_by_the_pre_ping(reports: dict[str, Report]) -> None:
    """What the server ended while it was idle is found dead at the next acquire, which succeeds all the same."""
    snapshot = reports["stale"]["snapshot"]
    assert snapshot["pre_ping_failures"] > 0
    assert snapshot["stale_idle_seconds"]["count"] > 0
    assert snapshot["closes"]["pre_ping"] + snapshot["closes"]["pool_invalidated"] > 0
    assert snapshot["failed_acquires"] == 0


def test_a_signal_in_any_scenario_leaves_nothing() -> None:
    """With connections forgotten, streaming, busy or dropped, a signal ends the demo without a trace."""
    with contextlib.ExitStack() as stack:
        running = []
        for name in (*GUILTY, "restart", "stale"):
            demo = stack.enter_context(a_demo())
            process = stack.enter_context(ending(demo.start("--scenario", name, "--port", "0")))
            running.append((name, demo, process))
        for name, _, process in running:
            assert process.stdout is not None
            assert name in process.stdout.readline()
            for _ in range(4):
                while not (line := process.stdout.readline()).startswith("used"):
                    assert line
            process.send_signal(signal.SIGTERM)
        for name, demo, process in running:
            _, stderr = process.communicate(timeout=30)
            assert (name, process.returncode, stderr) == (name, 128 + signal.SIGTERM, "")
            assert_nothing_left(demo)
