"""Describe the clients of the drills."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from pool_exporter_lab.demo.workload import Crowd, Request


def crowd(
    clients: int,
    *targets: str,
    pause: float = 0.2,
    active: Callable[[float], int] | None = None,
    method: str = "GET",
) -> Crowd:
    """Return clients that ask for one of the targets with random pauses of so many seconds on average."""

    def choose(dice: random.Random) -> Request:
        return method, dice.choice(targets)

    return Crowd(
        clients,
        choose,
        lambda dice: dice.expovariate(1 / pause) if pause else 0.0,
        active or (lambda seconds: clients),
    )


def browsers(clients: int = 4, *, statements: Sequence[float] = (0.005, 0.01, 0.02)) -> Crowd:
    """Return honest clients: short statements, and pauses in between."""
    return crowd(clients, *(f"/work?seconds={seconds:g}" for seconds in statements))


def in_waves(clients: int, *, seconds: float = 4.0) -> Crowd:
    """Return clients that ask busily in the first half of each period, and nothing in the second."""
    return crowd(
        clients, "/work", pause=0.1, active=lambda since: clients if since % seconds < seconds / 2 else 0
    )
