"""Play a pool's day exactly and read it as a scrape would: series for promtool, without a real pool."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from pool_exporter.catalogue import CLOSE_REASONS, OVERDUE_KINDS, PHASES

POOL_TIMEOUT_SECONDS = 30.0
GONE = None
"""What a scrape has of a series that is not there."""
Values = list[float | None]


class Work(NamedTuple):
    """One acquire: when it asks, for how long it then holds, and what it does meanwhile."""

    asks: float
    holds: float
    does: Literal["work", "statement", "nothing", "exempt"] = "work"
    fails: bool = False


class Use(NamedTuple):
    """An acquire as it went: `granted` is infinite for one that timed out or failed."""

    work: Work
    granted: float
    ends: float


@dataclass(frozen=True)
class Life:
    """One process with a pool: what is asked of it, from its start to its stop (seconds)."""

    works: Sequence[Work]
    instance: str = "a:9464"
    maximum: int | None = 10
    starts: float = -86400.0
    stops: float = math.inf
    opens_each: bool = False
    disposed_at: float = math.inf
    silent: tuple[tuple[float, float], ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)

    def uses(self) -> list[Use]:
        """Return how each acquire went, in a queue that is served in its order."""
        slots = [-math.inf] * (self.maximum or 10_000)
        played = []
        for work in sorted(self.works):
            if work.fails:
                played.append(Use(work, math.inf, work.asks))
                continue
            granted = max(work.asks, slots[0])
            if granted - work.asks > POOL_TIMEOUT_SECONDS:
                played.append(Use(work, math.inf, work.asks + POOL_TIMEOUT_SECONDS))
                continue
            heapq.heapreplace(slots, granted + work.holds)
            played.append(Use(work, granted, granted + work.holds))
        return played

    def answers(self, moment: float) -> bool:
        """Tell whether a scrape at this moment is answered."""
        return self.starts <= moment < self.stops and not any(a <= moment < b for a, b in self.silent)


def overdue_kind(use: Use, moment: float, disposed_at: float) -> str | None:
    """Return the kind by which a use is overdue, by the default LeakPolicy."""
    age = moment - use.granted
    if use.work.does == "exempt":
        return None
    if use.granted < disposed_at <= moment - 300:
        return "orphaned"
    if use.work.does == "statement" and age >= 300:
        return "busy"
    return "idle_in_transaction" if use.work.does == "nothing" and age >= 60 else None


def scraped(life: Life, uses: Iterable[Use], moment: float) -> dict[tuple[str, str], float]:
    """Return one scrape: values by metric and by the further label, as text."""
    begun = [use for use in uses if use.work.asks <= moment]
    granted = [use for use in begun if use.granted <= moment]
    held = [use for use in granted if use.ends > moment]
    ended = len(granted) - len(held)
    waiting = sum(1 for use in begun if use.granted > moment and use.ends > moment and not use.work.fails)
    timed_out = sum(
        1 for use in begun if math.isinf(use.granted) and use.ends <= moment and not use.work.fails
    )
    failed = sum(1 for use in begun if use.work.fails)
    opened = len(granted) if life.opens_each else min(len(granted), life.maximum or 10)
    kinds = [overdue_kind(use, moment, life.disposed_at) for use in held]
    found = {
        ("connections", 'state="used"'): len(held),
        ("connections", 'state="idle"'): 0 if life.opens_each else max(0, opened - len(held)),
        ("processes", ""): 1,
        ("unaccounted_slots", ""): 0,
        ("start_time_seconds", ""): life.starts,
        ("info", f'pool_class="{"NullPool" if life.opens_each else "QueuePool"}",server="db:5432"'): 1,
        ("acquires_total", ""): len(begun),
        ("checkouts_total", ""): len(granted),
        ("checkins_total", ""): ended,
        ("timeouts_total", ""): timed_out,
        ("failed_acquires_total", ""): failed,
        ("connects_total", ""): opened,
        ("occupancy_seconds_total", ""): sum(min(use.ends, moment) - use.granted for use in granted),
        ("wait_seconds_sum", ""): sum(use.granted - use.work.asks for use in granted),
        ("use_seconds_sum", ""): sum(use.ends - use.granted for use in granted if use.ends <= moment),
        **{("pending_requests", f'phase="{one}"'): waiting if one == "queued" else 0 for one in PHASES},
        **{("overdue_uses", f'kind="{one}"'): kinds.count(one) for one in OVERDUE_KINDS},
        **{("closes_total", f'reason="{one}"'): 0 for one in CLOSE_REASONS},
    }
    if life.maximum is not None:
        found["connections_max", ""] = life.maximum
    for name in ("cancelled_acquires", "detaches", "leaks_collected", "stranded_waits", "pre_ping_failures"):
        found[f"{name}_total", ""] = 0
    return {key: float(value) for key, value in found.items()}


def series_of(lives: Iterable[Life], seconds: float, interval: float) -> list[dict[str, str]]:
    """Return everything that Prometheus has of these processes, as input series of a unit test of promtool."""
    moments = [number * interval for number in range(int(seconds / interval) + 1)]
    found: dict[str, Values] = {}
    for life in lives:
        own = ",".join(f'{name}="{value}"' for name, value in {**_target(life), **life.labels}.items())
        uses = life.uses()
        for index, moment in enumerate(moments):
            up = life.answers(moment)
            if up:
                for (metric, label), value in scraped(life, uses, moment).items():
                    name = f'sqlalchemy_pool_{metric}{{{own},pool="orders"{"," if label else ""}{label}}}'
                    found.setdefault(name, [GONE] * len(moments))[index] = value
            if life.starts <= moment < life.stops:
                target = ",".join(f'{name}="{value}"' for name, value in _target(life).items())
                values = found.setdefault(f"up{{{target}}}", [GONE] * len(moments))
                values[index] = max(values[index] or 0.0, float(up))
    return [{"series": name, "values": _notation(values)} for name, values in found.items()]


def _target(life: Life) -> dict[str, str]:
    return {"job": "shop", "instance": life.instance}


def _notation(values: Values) -> str:
    """Return values as promtool has them: one marker where a series goes away, nothing until it is there."""
    before: float | None = GONE
    parts = []
    for value in values:
        parts.append(f"{value:g}" if value is not None else "stale" if before is not None else "_")
        before = value
    return " ".join(parts)
