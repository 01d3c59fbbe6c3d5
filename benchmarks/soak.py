"""Check connections out and in a million times and tell whether memory stays flat.

asyncpg against a PostgreSQL server of its own. `WORKERS` tasks share a pool of `POOL_SIZE`
connections without overflow, so that some acquires queue. Every 10th use executes a statement;
every 1,000th invalidates its connection, so that connections come and go too; and once in 1,000
uses somebody takes the whole pool while an acquire that queues for it is cancelled. Everything is
scraped at each sample.

Prints resident memory (KiB) and traced memory (bytes that Python objects take, by tracemalloc)
after a warm-up of an eleventh, along the way and at the end, and the growth in bytes a checkout.
Exits with 1 if traced memory grew by more than `--traced-bound` bytes from the end of the
warm-up to the end of the run, resident memory by more than `--resident-bound` KiB, or if the
books of the pool do not balance; else with 0.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import sys
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import psutil
from _common import arguments, budget, machine, positive, report, table
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from pool_exporter import PoolSnapshot, instrument
from pool_exporter_lab.demo.database import database

WORKERS = 8
POOL_SIZE = 5
SAMPLES = 10
TRACED_BOUND = 256 * 1024
RESIDENT_BOUND = 16 * 1024
COUNTED = ("checkouts", "connects", "waits", "cancelled_acquires", "statements")
SELECT = text("SELECT 1")


async def use(engine: AsyncEngine, number: int) -> None:
    """Check a connection out and in, and do with it what its number asks for."""
    async with engine.connect() as connection:
        if number % 100 == 0:
            await connection.execute(SELECT)
        elif number % 10_000 == 51:
            await connection.invalidate()


async def give_up(engine: AsyncEngine, collecting: asyncio.Lock) -> None:
    """Take the whole pool, and cancel an acquire that queues for it."""
    async with collecting, contextlib.AsyncExitStack() as stack:  # two that collect would deadlock
        for _ in range(POOL_SIZE):
            await stack.enter_async_context(engine.connect())
        waiter = asyncio.create_task(use(engine, 1))
        await asyncio.sleep(0)
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)


async def churn(engine: AsyncEngine, numbers: Iterator[int], collecting: asyncio.Lock) -> None:
    """Work through numbers until there are no more."""
    for number in numbers:
        if number % 10_000 == 77:
            await give_up(engine, collecting)
        await use(engine, number)


def sample(done: int, registry: CollectorRegistry) -> dict[str, int]:
    """Return what memory is in use now, after a scrape and a full collection."""
    generate_latest(registry)
    gc.collect()
    traced, _ = tracemalloc.get_traced_memory()
    return {
        "checkouts": done,
        "traced_bytes": traced,
        "resident_kib": psutil.Process().memory_info().rss // 1024,
    }


def imbalances(snapshot: PoolSnapshot) -> list[str]:
    """Return which of the laws do not hold for a pool at rest."""
    laws = {
        "checkouts = checkins + detaches + leaks_collected + uses": snapshot.checkouts
        == snapshot.checkins + snapshot.detaches + snapshot.leaks_collected + snapshot.uses,
        "connects = closes + detaches + open": snapshot.connects
        == sum(snapshot.closes.values()) + snapshot.detaches + snapshot.used + snapshot.idle,
        "no use is left": snapshot.uses == 0,
        "no slot is unaccounted for": not snapshot.unaccounted_slots,
        "no failure of the library": snapshot.telemetry_errors == 0,
    }
    return [law for law, holds in laws.items() if not holds]


async def run(options: Any) -> dict[str, Any]:
    """Run to the end and compare it with the end of the warm-up."""
    found = machine()
    registry = CollectorRegistry()
    tracemalloc.start()
    async with database("postgresql") as url:
        engine = create_async_engine(url, pool_size=POOL_SIZE, max_overflow=0)
        watched = None if options.bare else instrument(engine, registry=registry)
        numbers = itertools.count()
        collecting = asyncio.Lock()
        samples: list[dict[str, int]] = []
        began = time.perf_counter()
        # The end of the warm-up is a sample, and then SAMPLES more to the end.
        for part in range(SAMPLES + 1):
            end = options.checkouts * (part + 1) // (SAMPLES + 1)
            share = itertools.islice(numbers, end - (samples[-1]["checkouts"] if samples else 0))
            await asyncio.gather(*(churn(engine, share, collecting) for _ in range(WORKERS)))
            samples.append(sample(end, registry))
        seconds = time.perf_counter() - began
        snapshot = watched.snapshot() if watched is not None else None
        await engine.dispose()
    first, last = samples[0], samples[-1]
    traced = last["traced_bytes"] - first["traced_bytes"]
    resident = last["resident_kib"] - first["resident_kib"]
    return {
        "program": "soak",
        "machine": found,
        "checkouts": options.checkouts,
        "bare": options.bare,
        "seconds": seconds,
        "samples": samples,
        "counted": {name: getattr(snapshot, name) for name in COUNTED} if snapshot is not None else {},
        "traced_bytes_a_checkout": traced / (last["checkouts"] - first["checkouts"]),
        "resident_bytes_a_checkout": resident * 1024 / (last["checkouts"] - first["checkouts"]),
        "imbalances": imbalances(snapshot) if snapshot is not None else [],
        "budgets": [
            budget("growth of traced memory", traced / 1024, options.traced_bound / 1024, "KiB"),
            budget("growth of resident memory", resident, options.resident_bound, "KiB"),
        ],
    }


def shown(result: dict[str, Any]) -> str:
    """Return the samples, the growth and what was counted."""
    rows = [
        (f"{one['checkouts']:,}", f"{one['traced_bytes'] / 1024:,.1f}", f"{one['resident_kib']:,}")
        for one in result["samples"]
    ]
    counted = ", ".join(f"{name} {count:,}" for name, count in result["counted"].items())
    wrong = "".join(f"DOES NOT HOLD: {law}\n" for law in result["imbalances"])
    return (
        table(("checkouts", "traced, KiB", "resident, KiB"), rows)
        + f"\n\ngrowth a checkout: {result['traced_bytes_a_checkout']:+.4f} bytes traced, "
        + f"{result['resident_bytes_a_checkout']:+.3f} bytes resident\n"
        + f"took {result['seconds']:.0f} s; counted: {counted or 'nothing, not instrumented'}\n{wrong}"
    )


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--checkouts", type=positive, default=1_000_000, help="how many (%(default)s)")
    parser.add_argument("--bare", action="store_true", help="do not instrument: the control")
    parser.add_argument("--traced-bound", type=int, default=TRACED_BOUND, help="bytes (%(default)s)")
    parser.add_argument("--resident-bound", type=int, default=RESIDENT_BOUND, help="KiB (%(default)s)")
    options = parser.parse_args()
    result = asyncio.run(run(options))
    report(result, shown(result), as_json=options.as_json)
    return 0 if all(one["holds"] for one in result["budgets"]) and not result["imbalances"] else 1


if __name__ == "__main__":
    sys.exit(main())
