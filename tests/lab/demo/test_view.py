"""The view's numbers and names, from moments whose content is known."""

from __future__ import annotations

import io
from typing import Any

import pytest

from pool_exporter.records import HeldConnection, HistogramSnapshot
from pool_exporter_lab.demo.guilty import guilty
from pool_exporter_lab.demo.moment import Message, Moment, Site
from pool_exporter_lab.demo.view import LiveView, bar, quantile
from tests.exporters.snapshots import snapshot

BOUNDS = (0.1, 0.5, 1.0)
ROUTE = Site("POST /orders/{id}", "app:place_order", "/srv/application.py", 51)
ADDRESS = "http://127.0.0.1:1/metrics"


class Terminal(io.StringIO):
    """An output that is a terminal of 80 columns and 24 lines."""

    def isatty(self) -> bool:
        return True


def waits(*counts: int) -> HistogramSnapshot:
    return HistogramSnapshot(BOUNDS, counts, 0.0)


def held(site: Site = ROUTE, **changes: Any) -> HeldConnection:
    """Make a use that is overdue, idle in transaction."""
    fields: dict[str, Any] = {
        **site._asdict(),
        "pool": "demo",
        "task_name": "Task-1",
        "trace_id": None,
        "age_seconds": 12.0,
        "quiet_seconds": 11.0,
        "busy": False,
        "running": False,
        "in_transaction": True,
        "backend_pid": 4711,
        "local_port": None,
        "overdue": "idle_in_transaction",
        "exempt": False,
        "statement": None,
        "stack": (),
    }
    return HeldConnection(**{**fields, **changes})


@pytest.mark.parametrize(
    ("rank", "counts", "seconds"),
    [
        (0.5, (10, 0, 0, 0), 0.05),
        (0.5, (0, 10, 0, 0), 0.3),
        (0.99, (99, 1, 0, 0), 0.1),
        (0.75, (50, 50, 0, 0), 0.3),
        (0.99, (0, 0, 0, 5), 1.0),
        (0.99, (0, 0, 0, 0), None),
    ],
)
def test_a_quantile_is_interpolated_as_prometheus_does(
    rank: float, counts: tuple[int, ...], seconds: float | None
) -> None:
    """Within a bucket linearly, above the last bound that bound, without samples nothing."""
    assert quantile(rank, waits(0, 0, 0, 0), waits(*counts)) == pytest.approx(seconds)


def test_only_the_last_seconds_count() -> None:
    """Samples that fell before the first of two snapshots are left out."""
    assert quantile(0.5, waits(0, 100, 0, 0), waits(10, 100, 0, 0)) == pytest.approx(0.05)


def test_the_bar_shows_used_idle_and_what_may_still_be_opened() -> None:
    """Of ten connections five used and two idle fill half and a fifth of the bar."""
    assert bar(snapshot(used=5, idle=2, max=10)) == "[" + "#" * 15 + "-" * 6 + "." * 9 + "]"


def test_a_line_holds_the_snapshot_and_the_window() -> None:
    """Off a terminal a moment is a line with its numbers, the wait in milliseconds and the address."""
    output = io.StringIO()
    view = LiveView(output, title=("demo", "overdue: 2 s"), address=ADDRESS)
    pool = {"used": 7, "idle": 1, "size": 5, "max": 10, "timeouts": 4}
    queued = {"queued": 3, "connecting": 1, "pinging": 0}
    view.starting()
    view.begin(Moment(snapshot=snapshot(wait_seconds=waits(0, 9, 0, 0), **pool)))

    view.show(Moment(snapshot=snapshot(wait_seconds=waits(10, 9, 0, 0), pending_requests=queued, **pool)))

    title, line = output.getvalue().splitlines()
    assert title == f"demo; overdue: 2 s  {ADDRESS}"
    assert " ".join(line.split()) == (
        f"used 7 idle 1 overflow 3 of 10 waiting 3 wait p99 99 ms (last 1 s) timeouts 4 {ADDRESS}"
    )


def test_a_guilty_line_names_route_function_file_line_number_age_and_state() -> None:
    """Overdue uses of one site are one line, with the age of the oldest; others are none."""
    moment = Moment(
        snapshot=snapshot(), held=(held(), held(age_seconds=3.0), held(overdue=None), held(exempt=True))
    )

    assert guilty(moment) == [
        "leak: POST /orders/{id} app:place_order application.py:51, 3 connections, oldest 12 s, "
        "idle in transaction"
    ]


def test_a_long_statement_is_called_slow_and_not_a_leak() -> None:
    """A busy use has a line of its own, after that of the more numerous leaks."""
    slow = Site("app:report", "app:report", "/srv/application.py", 9)
    moment = Moment(snapshot=snapshot(), held=(held(slow, overdue="busy"), held(), held()))

    assert guilty(moment, whole_paths=True) == [
        "leak: POST /orders/{id} app:place_order /srv/application.py:51, 2 connections, oldest 12 s, "
        "idle in transaction",
        "slow: app:report /srv/application.py:9, 1 connection, oldest 12 s, running a statement",
    ]


def test_what_was_collected_or_given_back_late_is_named_too() -> None:
    """What is no longer held stands in the lines as it was logged; a mere suspicion does not, twice."""
    other = Site("job", None, None, None)
    moment = Moment(
        snapshot=snapshot(),
        events={("collected", ROUTE): 3, ("recovered", other): 1, ("suspected", other): 1},
    )

    assert guilty(moment) == [
        "leak: POST /orders/{id} app:place_order application.py:51, "
        "3 connections dropped without close() and taken by the garbage collector",
        "leak: job, 1 connection given back late",
    ]


def test_a_name_cannot_write_on_the_terminal() -> None:
    """Control characters in an owner are spelled out."""
    (line,) = guilty(Moment(snapshot=snapshot(), held=(held(ROUTE._replace(owner="a\x1b[2J\nb")),)))
    assert "a\\x1b[2J\\nb app:place_order" in line


def test_off_a_terminal_the_guilty_and_new_messages_follow_the_line() -> None:
    """A message is printed once, the guilty each second, both indented."""
    output = io.StringIO()
    view = LiveView(output, title=("demo",), address=ADDRESS)
    first, second = Message(1, "one"), Message(2, "two")

    view.show(Moment(snapshot=snapshot(), held=(held(),), messages=(first,)))
    view.show(Moment(snapshot=snapshot(), held=(held(),), messages=(first, second)))

    leak = "  leak: POST /orders/{id} app:place_order application.py:51, 1 connection, oldest 12 s, idle in transaction"
    lines = [line for line in output.getvalue().splitlines() if line.startswith("  ")]
    assert lines == ["  log: one", leak, "  log: two", leak]


def test_on_a_terminal_the_guilty_and_messages_stand_below_the_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Verdict, guilty and messages are wrapped to the screen, and the next moment is drawn over all of it."""
    monkeypatch.setenv("TERM", "xterm")
    output = Terminal()
    view = LiveView(output, title=("demo",), address=ADDRESS)
    moment = Moment(
        snapshot=snapshot(used=10, uses=10, max=10, pending_requests={"queued": 0}, orphaned_connections=0),
        held=(held(),) * 10,
        messages=(Message(1, "short"), Message(2, "a long message " * 20)),
    )

    view.show(moment)
    before = len(output.getvalue())
    view.show(moment)

    lines = output.getvalue()[:before].splitlines()
    assert lines[4:] == [
        "full: 10 of 10 uses overdue, all from POST /orders/{id}; the oldest 12 s",
        "leak: POST /orders/{id} app:place_order application.py:51, 10 connections,",
        "  oldest 12 s, idle in transaction",
        "log: short",
        "log: a long message a long message a long message a long message a long message",
        "  a long message a long message a long message a long message a long message …",
        ADDRESS,
        "Ctrl-C ends it",
    ]
    assert all(len(line) < 80 for line in lines)
    assert output.getvalue()[before:].startswith(f"\x1b[{len(lines)}A\r\x1b[J")


def test_the_end_names_whole_paths_and_the_last_timeouts_note() -> None:
    """The last lines hold the totals, the verdict, the guilty and what the exception said."""
    output = io.StringIO()
    view = LiveView(output, title=("demo",), address=ADDRESS)

    view.end(
        Moment(
            snapshot=snapshot(timeouts=7, uses=1, used=1, max=10, pending_requests={"queued": 0}),
            held=(held(),),
            events={("suspected", ROUTE): 2, ("recovered", ROUTE): 1},
            timeout_note="10 of 10\nconnections",
        )
    )

    site = "POST /orders/{id} app:place_order /srv/application.py:51"
    assert output.getvalue().splitlines() == [
        "at the end: leaks suspected 2, recovered 1, collected 0; timeouts 7",
        "  leak: 1 of 1 use overdue, from POST /orders/{id}; the oldest 12 s",
        f"  leak: {site}, 1 connection, oldest 12 s, idle in transaction",
        f"  leak: {site}, 1 connection given back late",
        "  last timeout: 10 of 10 connections",
    ]
