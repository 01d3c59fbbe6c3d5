"""Write down the innocent cases that nobody may be woken for, and the troubles that are none of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.monitoring.rules.simulation import Life, Work

HOUR = 3600.0


class Scenario(NamedTuple):
    """Some processes, for how long they are watched, and how often they are scraped (seconds)."""

    lives: list[Life]
    seconds: float = HOUR
    interval: float = 15.0


def traffic(seed: int, a_second: float = 2.0, holds: float = 0.4, start: float = 0.0) -> Iterator[Work]:
    """Yield honest requests at random moments, from `start` for two hours."""
    chance = random.Random(seed)
    moment = start
    while moment < start + 2 * HOUR:
        moment += chance.expovariate(a_second)
        yield Work(moment, chance.expovariate(1 / holds))


def long_analytics_query() -> Scenario:
    """Hold one connection with one statement for the hour."""
    return Scenario([Life([*traffic(1), Work(60, HOUR, "statement")])])


def listen_connection() -> Scenario:
    """Hold two connections for ever, by owners that are exempt."""
    return Scenario([Life([*traffic(2), Work(-5000, 20000, "exempt"), Work(-4000, 20000, "exempt")])])


def batch_job() -> Scenario:
    """Work with eight of ten connections for half an hour, beside little traffic."""
    batch = [Work(300 + number, 1800) for number in range(8)]
    return Scenario([Life([*traffic(3, a_second=0.5, holds=0.1), *batch])])


def cold_start() -> Scenario:
    """Start with failures for 45 s, and then with sixty callers at once."""
    failing = [Work(600 + number, 0, fails=True) for number in range(45)]
    return Scenario(
        [Life([*failing, *(Work(646, 2) for _ in range(60)), *traffic(4, start=650)], starts=600)]
    )


def rolling_restart() -> Scenario:
    """Replace six instances, one a minute, each under load when it starts."""
    old = [
        Life(list(traffic(number)), instance=f"old-{number}", stops=600 + 60 * number) for number in range(6)
    ]
    new = [
        Life(
            [*(Work(begins, 1) for _ in range(25)), *traffic(number, start=begins)],
            instance=f"new-{number}",
            starts=begins,
        )
        for number, begins in ((number, 590 + 60.0 * number) for number in range(6))
    ]
    return Scenario([*old, *new])


def low_traffic() -> Scenario:
    """Acquire every seven minutes; one fails, two wait too long."""
    works = [Work(420 * number, 1, fails=number == 3) for number in range(9)]
    return Scenario([Life([*works, Work(2000, 45), Work(2001, 1), Work(2002, 1)], maximum=1)])


def pool_of_size_one() -> Scenario:
    """Take turns on one connection, used for half of the time, so that callers often queue for a moment."""
    return Scenario([Life(list(traffic(5, a_second=0.5, holds=1.0)), maximum=1)])


def null_pool() -> Scenario:
    """Open a connection for each of many acquires."""
    return Scenario([Life(list(traffic(6, a_second=5)), maximum=None, opens_each=True)])


def idle_at_night() -> Scenario:
    """Do nothing at all."""
    return Scenario([Life([Work(-7200, 1)])])


def scrape_gap() -> Scenario:
    """Fail the scrapes for ten minutes, and once more."""
    return Scenario([Life(list(traffic(7, a_second=6)), silent=((1200, 1800), (2400, 2415)))])


def four_workers_behind_one_port() -> Scenario:
    """Be answered by another of four workers at each scrape; each has a history of its own."""
    chance = random.Random(8)
    turns = [chance.randrange(4) for _ in range(500)]
    lives = []
    for worker in range(4):
        away = tuple((15.0 * n, 15.0 * n + 15) for n, whose in enumerate(turns) if whose != worker)
        works = [*traffic(10 + worker, a_second=1 + 3 * worker, start=-HOUR), Work(60, HOUR, "exempt")]
        lives.append(Life(works, silent=away, labels={"process": f"{4711 + worker}"}))
    return Scenario(lives)


def deploy_that_disposes() -> Scenario:
    """Dispose of the pool while eight uses are out, which come back within two minutes."""
    return Scenario(
        [Life([*traffic(9), *(Work(590 + n, 120) for n in range(8))], maximum=20, disposed_at=600)]
    )


def cron_in_phase() -> Scenario:
    """Fill the pool and its queue for a second and a half, at the moment of every scrape."""
    works = [Work(60 * minute - 0.7, 0.75) for minute in range(120) for _ in range(15)]
    return Scenario([Life([*works, *traffic(11, a_second=0.2)])], 2 * HOUR, 60.0)


def long_batch_that_ends() -> Scenario:
    """Hold ten of fifteen connections for fifty minutes, at work, and give all back at once."""
    return Scenario(
        [Life([*traffic(12), *(Work(120, 3000, "statement") for _ in range(10))], maximum=15)], 1.5 * HOUR
    )


INNOCENT: tuple[Callable[[], Scenario], ...] = (
    long_analytics_query,
    listen_connection,
    batch_job,
    cold_start,
    rolling_restart,
    low_traffic,
    pool_of_size_one,
    null_pool,
    idle_at_night,
    scrape_gap,
    four_workers_behind_one_port,
    deploy_that_disposes,
    cron_in_phase,
    long_batch_that_ends,
)


def leak() -> Scenario:
    """Lose a connection every two minutes, under traffic that the pool carries easily."""
    return Scenario([Life([*traffic(20), *(Work(300 + 120 * n, 9 * HOUR, "nothing") for n in range(12))])])


def overload() -> Scenario:
    """Ask for more than the pool can carry, from ten minutes on."""
    return Scenario([Life([*traffic(21), *traffic(22, a_second=30, start=600)])])


def mixture(seed: int) -> Scenario:
    """Mix leaks, streams that idle for a while, statements and load, so that the share of leaks moves about."""
    chance = random.Random(seed)
    works = list(traffic(seed, a_second=chance.uniform(1, 8), holds=chance.uniform(0.5, 4)))
    works += [
        Work(chance.uniform(0, HOUR), chance.uniform(40, 400), "nothing") for _ in range(chance.randrange(80))
    ]
    works += [
        Work(chance.uniform(0, HOUR), chance.uniform(40, 900), "statement")
        for _ in range(chance.randrange(20))
    ]
    return Scenario([Life(works, maximum=chance.choice((1, 3, 10)))], 1.5 * HOUR)
