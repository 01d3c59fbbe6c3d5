"""Measure what a thousand engines in one process cost: one for each tenant, coming and going.

Engines that are never connected, since PostgreSQL need not have a thousand databases for it; those that
come and go are SQLite's, used once each.

- microseconds of CPU that `instrument()` takes an engine: with a name of its own, with the name that
  a thousand others have (each gets a suffix), and into a group
- the scrape of a group of so many engines by `metrics_app()`: milliseconds of CPU, and the event
  loop's longest stall in CPU time, without full collections of the garbage collector
- what engines leave that come, are used, are disposed and go: bytes of Python objects an engine,
  traced by tracemalloc, without us (the control) and in a group
- publishing to other workers (multi-process mode): milliseconds of CPU that one publication takes of
  so many pools, at rest and when every tenth has been used since the last; and of one pool in use

Run with PROMETHEUS_MULTIPROC_DIR unset: it makes a directory of its own, in a process of its own.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

from _common import arguments, budget, machine, positive, report, table
from prometheus_client import CollectorRegistry
from scrape import asgi, asgi_cpu, loop_during, unconnected
from sqlalchemy import create_engine
from sqlalchemy.pool import QueuePool

from pool_exporter import instrument, metrics_app
from pool_exporter.instrumentation.runtime import RUNTIME

CHURN = 1000


def instrumenting(engines: int, options: Callable[[int], dict[str, Any]]) -> float:
    """Return the median microseconds of the last hundred of so many calls."""
    registry = CollectorRegistry()
    made, taken = unconnected(engines), []
    for number, engine in enumerate(made):
        began = time.process_time()
        instrument(engine, registry=registry, **options(number))
        taken.append((time.process_time() - began) * 1e6)
    return statistics.median(taken[-100:])


async def group_scrape(engines: int, times: int) -> dict[str, float]:
    """Return what the scrape of a group costs."""
    registry = CollectorRegistry()
    made = unconnected(engines)
    for engine in made:
        instrument(engine, registry=registry, group="tenants")
    scrape = asgi(metrics_app(registry))
    loop = await loop_during(scrape, times)
    return {**await asgi_cpu(scrape, times), "longest_own_stall": loop["longest_own_stall"]}


def churn(number: int, options: dict[str, Any] | None) -> None:
    """Let so many engines come and go."""
    for _ in range(number):
        engine = create_engine("sqlite://", poolclass=QueuePool)
        if options is not None:
            instrument(engine, **options)
        engine.connect().close()
        engine.dispose()


def left_behind(options: dict[str, Any] | None) -> float:
    """Return the bytes that an engine leaves which came and went."""
    churn(CHURN // 4, options)
    gc.collect()
    tracemalloc.start()
    try:
        churn(CHURN // 4, options)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        churn(CHURN, options)
        gc.collect()
        return (tracemalloc.get_traced_memory()[0] - before) / CHURN
    finally:
        tracemalloc.stop()


def publishing(engines: int, times: int) -> dict[str, float]:
    """Return milliseconds of CPU a publication; to be called in multi-process mode."""
    made = [create_engine("sqlite://", poolclass=QueuePool) for _ in range(engines)]
    for number, engine in enumerate(made):
        instrument(engine, name=f"tenant-{number}")
    RUNTIME.watcher.stop()
    RUNTIME.sharing.publish()

    def measure(before: Callable[[], None]) -> float:
        taken = []
        for _ in range(times):
            before()
            began = time.process_time()
            RUNTIME.sharing.publish()
            taken.append((time.process_time() - began) * 1e3)
        return statistics.median(taken)

    def use(every: int) -> Callable[[], None]:
        return lambda: [engine.connect().close() for engine in made[::every]] and None

    return {
        "at rest": measure(lambda: None),
        "a tenth used": measure(use(10)),
        "one used": measure(use(engines)),
    }


def quietly(function: Callable[[], float]) -> float:
    """Call a function without the log lines on names that are taken, of which there are as many as engines."""
    logger = logging.getLogger("pool_exporter")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        return function()
    finally:
        logger.setLevel(before)


def run(options: Any) -> dict[str, Any]:
    """Measure everything."""
    engines, times = options.engines, options.scrapes
    with tempfile.TemporaryDirectory() as directory:
        done = subprocess.run(
            [sys.executable, __file__, "--engines", str(engines), "--scrapes", str(times), "--publishing"],
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": directory},
            stdout=subprocess.PIPE,
            check=True,
        )
    found = {
        "instrument_microseconds": {
            "own name": instrumenting(engines, lambda number: {"name": f"tenant-{number}"}),
            "same name": quietly(lambda: instrumenting(engines, lambda number: {"name": "tenant"})),
            "group": instrumenting(engines, lambda number: {"group": "tenants"}),
        },
        "group_scrape": asyncio.run(group_scrape(engines, times)),
        "bytes_left_an_engine": {
            "without us (control)": left_behind(None),
            "group": left_behind({"registry": CollectorRegistry(), "group": "tenants"}),
        },
        "publish_milliseconds": json.loads(done.stdout),
    }
    left = found["bytes_left_an_engine"]
    scrape = found["group_scrape"]
    budgets = [
        *(
            budget(f"instrument(), {engines} engines, {way}", taken / 1e3, 1, "ms of CPU")
            for way, taken in found["instrument_microseconds"].items()
        ),
        budget(
            f"scrape of a group of {engines} engines, longest own stall",
            scrape["longest_own_stall"],
            20,
            "ms of CPU",
        ),
        budget("left by an engine that went", left["group"] - left["without us (control)"], 64, "bytes"),
    ]
    return {"program": "tenants", "machine": machine(), "engines": engines, **found, "budgets": budgets}


def shown(result: dict[str, Any]) -> str:
    """Return the tables."""
    scrape = result["group_scrape"]
    parts = [
        table(
            ("instrument() of an engine with", "us of CPU"),
            [(way, f"{taken:,.0f}") for way, taken in result["instrument_microseconds"].items()],
        ),
        table(
            ("scrape of the group", "ms"),
            [
                ("CPU", f"{scrape['cpu_milliseconds']:.2f}"),
                ("longest stall of the loop", f"{scrape['longest_own_stall']:.2f}"),
            ],
        ),
        table(
            ("left by an engine that came and went", "bytes"),
            [(way, f"{left:.0f}") for way, left in result["bytes_left_an_engine"].items()],
        ),
        table(
            ("a publication, pools", "ms of CPU"),
            [(way, f"{taken:.2f}") for way, taken in result["publish_milliseconds"].items()],
        ),
    ]
    return "\n\n".join(parts) + "\n\n"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--engines", type=positive, default=1000, help="engines (%(default)s)")
    parser.add_argument("--scrapes", type=positive, default=12, help="scrapes (%(default)s)")
    parser.add_argument("--publishing", action="store_true", help="measure publishing only, in this process")
    options = parser.parse_args()
    if options.publishing:
        print(json.dumps(publishing(options.engines, options.scrapes)))
        return
    result = run(options)
    report(result, shown(result), as_json=options.as_json)


if __name__ == "__main__":
    main()
