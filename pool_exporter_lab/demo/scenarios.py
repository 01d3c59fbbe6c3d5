"""Name the demo's scenarios: what each shows, and which crowds of clients make it happen."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pool_exporter import LeakPolicy
from pool_exporter_lab.demo.workload import Crowd, Request

POLICY = LeakPolicy(idle_in_transaction_seconds=2.0, idle_seconds=2.0, busy_seconds=5.0)
"""Times so short that each scenario shows within some seconds."""

DEFAULT = "load"
WAVE_SECONDS = 20.0
CREST_SECONDS = 6.0
"""When the first crest of the load comes, after the start."""
MAX_CLIENTS = 86
FEWEST_CLIENTS = 3
THINK_SECONDS = 0.2
"""Mean pause of a client between an answer and its next request."""
STATEMENT_SECONDS = 8.0
"""How long the slow statement runs; overdue as busy for more than a third of it."""
IDLE_LIMIT_SECONDS = 2.0
"""From when on the server ends idle connections, where they go stale."""
BURST_SECONDS = 4.0
"""From one burst of requests to the next one, where connections go stale in between."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """Hold one way to use the shop.

    - `collects`: whether the garbage collector runs often meanwhile.
    - `restarts`: whether the database server is restarted again and again.
    - `settings`: PostgreSQL's, for each connection.
    """

    phrase: str
    crowds: tuple[Crowd, ...]
    needs_postgresql: bool = False
    collects: bool = False
    restarts: bool = False
    settings: tuple[tuple[str, str], ...] = ()


def waves(seconds: float) -> int:
    """Return how many clients are active so long after the start: more and fewer, in waves."""
    height = (1 + math.cos(2 * math.pi * (seconds - CREST_SECONDS) / WAVE_SECONDS)) / 2
    return round(FEWEST_CLIENTS + (MAX_CLIENTS - FEWEST_CLIENTS) * height)


def shop(dice: random.Random) -> Request:
    """Choose among requests that hold a connection for up to a second."""
    throw = dice.random()
    if throw < 0.5:
        return "GET", "/orders"
    if throw < 0.85:
        return "POST", f"/orders?cents={dice.randint(100, 9999)}"
    return "GET", f"/report?days={dice.randint(1, 10)}"


def browse(dice: random.Random) -> Request:
    """Choose among requests that hold a connection for one short statement."""
    return ("GET", "/orders") if dice.random() < 0.5 else ("GET", f"/orders/{dice.randint(1, 50)}")


def _refund(least_cents: int, most_cents: int) -> Callable[[random.Random], Request]:
    return lambda dice: (
        "POST",
        f"/orders/{dice.randint(1, 50)}/refund?cents={dice.randint(least_cents, most_cents)}",
    )


def _think(dice: random.Random) -> float:
    return dice.expovariate(1 / THINK_SECONDS)


def _all_the_time(clients: int) -> Callable[[float], int]:
    return lambda seconds: clients


def _one_more_each(interval_seconds: float) -> Callable[[float], int]:
    return lambda seconds: 1 + int(seconds / interval_seconds)


def _bursts(clients: int) -> Callable[[float], int]:
    return lambda seconds: clients if seconds % BURST_SECONDS < 1 else 0


_BROWSERS = Crowd(4, browse, _think, _all_the_time(4))

SCENARIOS: Mapping[str, Scenario] = {
    "healthy": Scenario("short honest requests, nobody waits", (_BROWSERS,)),
    "load": Scenario(
        "the pool is full in waves, callers queue and time out; nothing leaks",
        (Crowd(MAX_CLIENTS, shop, _think, waves),),
    ),
    "slow": Scenario(
        "statements that take long fill the pool: overdue as busy, never suspected; PostgreSQL only",
        (
            Crowd(
                12,
                lambda dice: ("GET", f"/statistics?seconds={STATEMENT_SECONDS:g}"),
                _think,
                _one_more_each(0.25),
            ),
            _BROWSERS,
        ),
        needs_postgresql=True,
    ),
    "leak": Scenario(
        "a route forgets a connection now and then, until the pool is full for good",
        (
            # The second one's refunds need an approval, and leak.
            Crowd(1, _refund(100, 4999), _think, _all_the_time(1)),
            Crowd(1, _refund(5001, 9999), lambda dice: dice.uniform(0.6, 0.9), _all_the_time(1)),
            _BROWSERS,
        ),
    ),
    "stream": Scenario(
        "a dependency opens a session, then the response streams for half a minute",
        (
            Crowd(14, lambda dice: ("POST", "/chat/stream"), _think, _one_more_each(0.5)),
            _BROWSERS,
        ),
    ),
    "collected": Scenario(
        "a route drops its connections without close(), and the garbage collector takes them",
        (
            Crowd(
                1,
                lambda dice: ("GET", f"/orders/{dice.randint(1, 50)}/invoice"),
                lambda dice: dice.uniform(0.2, 0.4),
                _all_the_time(1),
            ),
            _BROWSERS,
        ),
        collects=True,
    ),
    "restart": Scenario(
        "the database server is restarted every few seconds; PostgreSQL only",
        (Crowd(8, shop, _think, _all_the_time(8)), _BROWSERS),
        needs_postgresql=True,
        restarts=True,
    ),
    "stale": Scenario(
        "the server ends idle connections, and the next pre-ping finds them dead; PostgreSQL only",
        (Crowd(8, shop, _think, _bursts(8)),),
        needs_postgresql=True,
        settings=(("idle_session_timeout", f"{IDLE_LIMIT_SECONDS:g}s"),),
    ),
}
