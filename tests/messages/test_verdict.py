"""Check what is said of a pool: each state, its words, and how durations are written."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_exporter.messages.verdict import SEVERITIES, State, Verdict, verdict
from pool_exporter.records import HeldConnection, PoolStatus
from pool_exporter.support.text import humanised
from tests.serving.status.records import full_of_leaks, held, leaking, pending, status

BEHIND = "; the wait is behind the pool, in the database or a proxy such as PgBouncer before it"


def of(made: PoolStatus) -> tuple[str, str]:
    found = verdict(made.snapshot, made.held)
    return found.state, found.text


def running(number: int, age: float = 800.0) -> list[HeldConnection]:
    """Make holders whose statement has run for too long."""
    return [
        held(
            "job:nightly",
            age,
            busy=True,
            running=True,
            quiet_seconds=0.0,
            overdue="busy",
            in_transaction=True,
        )
        for _ in range(number)
    ]


def streaming(number: int, age: float = 800.0) -> list[HeldConnection]:
    """Make holders that have had a server-side cursor open for too long."""
    return [replace(one, running=False) for one in running(number, age)]


def full(*holders: HeldConnection, **changes: Any) -> PoolStatus:
    """Make a pool that these holders fill."""
    return status(*holders, **{"size": len(holders), "max": len(holders), "idle": 0, **changes})


CASES: dict[str, tuple[PoolStatus, str, str]] = {
    "nothing was opened yet": (status(idle=0), "idle", "idle: nothing open"),
    "connections wait for work": (status(idle=3), "idle", "idle: 3 open, none in use"),
    "one use": (status(held(age=0.04)), "busy", "busy: 1 use, 40 ms old"),
    "many uses": (
        status(*(held(age=0.001 * n) for n in range(1, 11))),
        "busy",
        "busy: 10 uses, none older than 10 ms",
    ),
    "an age is no lower bound": (
        status(held(age=0.0401), held(age=0.01)),
        "busy",
        "busy: 2 uses, none older than 41 ms",
    ),
    "acquires in progress": (
        status(held(), held(), pending_requests=pending(queued=1, connecting=2, pinging=3)),
        "busy",
        "busy: 2 uses, none older than 40 ms, 2 connecting, 3 pinging, 1 caller queued",
    ),
    "the first connect": (
        status(idle=0, pending_requests=pending(connecting=1), oldest_pending_seconds=0.2),
        "busy",
        "busy: no use yet, 1 connecting",
    ),
    "connects hang": (
        status(idle=0, pending_requests=pending(connecting=4, queued=2), oldest_pending_seconds=12.0),
        "unreachable",
        "unreachable: nothing is open, 4 acquires connecting, 2 callers queued, the longest for 12 s",
    ),
    "connects hang in a pool without limit": (
        status(idle=0, max=None, size=None, pending_requests=pending(connecting=1), oldest_pending_seconds=5),
        "unreachable",
        "unreachable: nothing is open, 1 acquire connecting, the longest for 5 s",
    ),
    "no connect ever worked": (
        status(idle=0, connects=0, connect_errors={"OSError": 2, "other": 1}),
        "unreachable",
        "unreachable: nothing was ever open, 3 attempts to connect failed",
    ),
    "connects failed once, and work now": (
        status(idle=0, connects=7, connect_errors={"OSError": 2}),
        "idle",
        "idle: nothing open",
    ),
    "full of leaks, of one owner": (
        full(*(leaking(n) for n in range(9)), held(), pending_requests=pending(queued=6)),
        "full_leak",
        "full: 9 of 10 uses overdue, all from POST /chat/stream; the oldest 12 min 5 s, 6 callers queued",
    ),
    "full, and half of it leaks": (
        full(leaking(), held()),
        "full_leak",
        "full: 1 of 2 uses overdue, from POST /chat/stream; the oldest 12 min 5 s",
    ),
    "full, and less than half of it leaks": (
        full(leaking(), held(), held(), pending_requests=pending(queued=1)),
        "full_load",
        "full: 3 of 3, 1 caller queued; 1 overdue, from POST /chat/stream, the others are load",
    ),
    "full of slow statements": (
        full(*running(3), leaking()),
        "full_slow",
        "full: 4 of 4 uses overdue, 3 from job:nightly, 1 from POST /chat/stream, running statements; "
        "the oldest 13 min 20 s" + BEHIND,
    ),
    "full of statements that are not answered, while callers queue": (
        full(*running(2), pending_requests=pending(queued=3)),
        "full_slow",
        "full: 2 of 2 uses overdue, all from job:nightly, running statements; the oldest 13 min 20 s, "
        "3 callers queued" + BEHIND,
    ),
    "full of statements and pings that are not answered": (
        full(*running(2), max=4, pending_requests=pending(pinging=2)),
        "full_slow",
        "full: 2 of 2 uses overdue, all from job:nightly, running statements; the oldest 13 min 20 s, "
        "2 pinging" + BEHIND,
    ),
    "full of streams, which may wait for their readers": (
        full(*streaming(2)),
        "full_slow",
        "full: 2 of 2 uses overdue, all from job:nightly, in a stream, COPY or commit; the oldest 13 min 20 s",
    ),
    "full of statements and streams": (
        full(*running(2), *streaming(1)),
        "full_slow",
        "full: 3 of 3 uses overdue, all from job:nightly, 2 running statements; "
        "the oldest 13 min 20 s" + BEHIND,
    ),
    "full of streams and one statement": (
        full(*running(1), *streaming(2)),
        "full_slow",
        "full: 3 of 3 uses overdue, all from job:nightly, 1 running statements; the oldest 13 min 20 s",
    ),
    "full of both alike": (
        full(*running(1), leaking()),
        "full_leak",
        "full: 2 of 2 uses overdue, 1 from job:nightly, 1 from POST /chat/stream; the oldest 13 min 20 s",
    ),
    "full of load": (
        full(*(held(age=0.4) for _ in range(15)), pending_requests=pending(queued=6)),
        "full_load",
        "full: 15 of 15, 6 callers queued; none overdue: this is load, the oldest use 400 ms",
    ),
    "full with what connects": (
        full(
            *(held() for _ in range(3)),
            max=5,
            pending_requests=pending(connecting=1, pinging=1),
        ),
        "full_load",
        "full: 5 of 5; none overdue: this is load, the oldest use 40 ms",
    ),
    "full of what connects": (
        full(held(), max=5, pending_requests=pending(connecting=4), oldest_pending_seconds=7.0),
        "full_connecting",
        "full: 4 of 5 slots wait for the database to answer; the longest acquire 7 s" + BEHIND,
    ),
    "one slot is free": (
        full(*(held() for _ in range(3)), max=4),
        "busy",
        "busy: 3 uses, none older than 40 ms",
    ),
    "a leak that is not overdue yet": (
        full(held(age=48.0), held(age=2.0)),
        "full_load",
        "full: 2 of 2; none overdue yet, but 1 quiet for up to 48 s, from GET /orders/{id}: perhaps a leak",
    ),
    "full of exempt uses": (
        full(held("listener", 9000.0, exempt=True), held()),
        "full_load",
        "full: 2 of 2; 1 never overdue because exempt, from listener",
    ),
    "an exempt use among load": (
        full(held("listener", 9000.0, exempt=True), held(), held()),
        "full_load",
        "full: 3 of 3; none overdue: this is load, the oldest use 40 ms",
    ),
    "slots that nobody has": (
        status(idle=10, max=10, unaccounted_slots=10, pending_requests=pending(queued=3)),
        "full_lost",
        "full: 10 of 10 slots are lost, in nobody's hands, 3 callers queued; engine.dispose() makes a new pool",
    ),
    "a count that lags hides nothing": (
        full(held(), held(), unaccounted_slots=-1),
        "full_load",
        "full: 2 of 2; none overdue: this is load, the oldest use 40 ms",
    ),
    "uses of an old generation take no slot": (
        full(held(), held(), orphaned_connections=1),
        "busy",
        "busy: 2 uses, none older than 40 ms",
    ),
    "callers queue all the same": (
        full(held(), held(), orphaned_connections=1, pending_requests=pending(queued=1)),
        "full_load",
        "full: 2 of 2, 1 caller queued; none overdue: this is load, the oldest use 40 ms",
    ),
    "a leak in a pool with room": (
        status(leaking(), leaking(1), held()),
        "leak",
        "leak: 2 of 3 uses overdue, all from POST /chat/stream; the oldest 12 min 5 s",
    ),
    "an orphan": (
        status(held(age=400.0, overdue="orphaned"), orphaned_connections=1),
        "leak",
        "leak: 1 of 1 use overdue, from GET /orders/{id}; the oldest 6 min 40 s",
    ),
    "slow statements in a pool with room": (
        status(*running(2), held()),
        "slow",
        "slow: 2 of 3 uses overdue, all from job:nightly, running statements; the oldest 13 min 20 s"
        + BEHIND,
    ),
    "slow streams in a pool with room": (
        status(*streaming(1), held()),
        "slow",
        "slow: 1 of 2 uses overdue, from job:nightly, in a stream, COPY or commit; the oldest 13 min 20 s",
    ),
    "a leak among slow statements": (
        status(*running(2), leaking()),
        "leak",
        "leak: 1 of 3 uses overdue, from POST /chat/stream; the oldest 12 min 5 s",
    ),
    "many owners": (
        status(*(leaking(n, owner) for n, owner in enumerate("aaabbcd"))),
        "leak",
        "leak: 7 of 7 uses overdue, 3 from a, 2 from b, 2 from others; the oldest 12 min 5 s",
    ),
    "a pool without limit is never full": (
        status(*(held() for _ in range(500)), size=None, max=None),
        "busy",
        "busy: 500 uses, none older than 40 ms",
    ),
    "reduced mode, full": (
        full(leaking(), pending_requests=None, oldest_pending_seconds=None, unaccounted_slots=None),
        "full_leak",
        "full: 1 of 1 use overdue, from POST /chat/stream; the oldest 12 min 5 s",
    ),
    "reduced mode, nothing known": (
        status(
            idle=0,
            pending_requests=None,
            oldest_pending_seconds=None,
            unaccounted_slots=None,
            connect_errors=None,
        ),
        "idle",
        "idle: nothing open",
    ),
    "the holders were asked a moment later": (
        status(leaking(), leaking(1), uses=1, used=1),
        "leak",
        "leak: 2 of 2 uses overdue, all from POST /chat/stream; the oldest 12 min 5 s",
    ),
    "the holders were gone a moment later": (
        status(used=2, uses=2, oldest_use_seconds=3.0),
        "busy",
        "busy: 2 uses, none older than 3 s",
    ),
}


@pytest.mark.parametrize(("made", "state", "text"), CASES.values(), ids=CASES)
def test_each_case_has_its_state_and_its_words(made: PoolStatus, state: str, text: str) -> None:
    """A pool of known numbers gets the state for programs and the sentence for people."""
    assert of(made) == (state, text)


def test_every_state_is_tested_and_has_a_severity() -> None:
    """The cases reach every state, and each state says how bad it is."""
    assert {state for _, state, _ in CASES.values()} == set(get_args(State)) == SEVERITIES.keys()
    assert Verdict("full_leak", "").severity == "critical"
    assert Verdict("leak", "").severity == "warning"
    assert Verdict("busy", "").severity == "good"


def test_an_owner_of_ten_kilobytes_does_not_fill_the_verdict() -> None:
    """Owners are cut, so that a verdict stays a sentence."""
    _, text = of(status(leaking(owner="x" * 10_000)))
    assert text == f"leak: 1 of 1 use overdue, from {'x' * 80}…; the oldest 12 min 5 s"


def test_the_example_pool_is_full_of_leaks() -> None:
    """The pool that other tests show is one of the worst kind."""
    assert of(full_of_leaks())[0] == "full_leak"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (-1.0, "0 s"),
        (math.nan, "0 s"),
        (math.inf, "for ever"),
        (0.0001, "under 1 ms"),
        (0.04, "40 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1 s"),
        (2.34, "2.3 s"),
        (9.96, "10 s"),
        (48.4, "48 s"),
        (59.6, "1 min"),
        (80.0, "1 min 20 s"),
        (300.0, "5 min"),
        (3599.6, "1 h"),
        (4200.0, "1 h 10 min"),
        (86399.0, "1 d"),
        (183600.0, "2 d 3 h"),
    ],
)
def test_durations_are_written_for_people(seconds: float, text: str) -> None:
    """A duration has one or two units, and never 60 of one."""
    assert humanised(seconds) == text


def test_a_bound_is_rounded_up() -> None:
    """With ceil, what is written is never less than the duration."""
    assert humanised(0.0401, math.ceil) == "41 ms"
    assert humanised(2.31, math.ceil) == "2.4 s"
    assert humanised(59.1, math.ceil) == "1 min"


@given(st.floats(min_value=0.001, max_value=1e9))
def test_a_written_duration_is_near_the_duration(seconds: float) -> None:
    """Read back, what is written is off by at most a tenth."""
    sizes = {"ms": 0.001, "s": 1, "min": 60, "h": 3600, "d": 86400}
    words = humanised(seconds).split()
    read = sum(float(number) * sizes[unit] for number, unit in zip(words[::2], words[1::2], strict=True))
    assert read == pytest.approx(seconds, rel=0.5 if seconds < 0.01 else 0.1)
