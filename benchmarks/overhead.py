"""Measure what watching a pool adds to each checkout, as ratios to a bare pool.

One process, one event loop, asyncpg, a PostgreSQL server of its own on a Unix socket, each arm an
engine of its own with one warm connection. A block is a number of cycles, timed as a whole. In
each round every arm runs one block, in an order shuffled by `--seed`; a ratio is an arm's block
over the bare block of the same round, and the figure is the median of these ratios with their
quartiles. The second bare arm is the control: its distance from 1 is noise. The engines are
made anew `--engines` times, so that no arm keeps a lucky place in memory or a lucky backend.
The garbage collector runs between blocks, never within.

With OpenTelemetry on, a checkout leaves the samples of its histograms to the next collection, which
runs in the SDK's own thread. One arm is what the checkout pays; in the other the recording is timed
as part of the block, so it is all that the process pays.

Two shapes of cycle:
- checkout: `async with engine.connect(): pass`, `--rounds` rounds of blocks of `--cycles`
- statement: the same with one `SELECT 1` executed on the connection, twice as many rounds of
  blocks a quarter as long, since each cycle takes several times as long

Ratios have no unit. "ratio" compares wall-clock times. "of CPU" is the same of this process's
CPU time, which other work on the machine disturbs less: for a checkout, which waits for nothing,
it should agree with the ratio; for a statement it leaves the server's time out, so it is larger.
"fastest tenth" is the arm's tenth percentile over the bare arm's, by wall clock: the blocks that
nothing disturbed. "adds" is the median of the paired differences in CPU time, in microseconds a
cycle, with quartiles; "us a cycle" is the median wall-clock time.
"""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from _arms import ARMS, record
from _common import arguments, budget, machine, positive, report, summary, table
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from pool_exporter_lab.demo.database import database

Block = Callable[[AsyncEngine, int], Awaitable[tuple[float, float]]]
"""Run so many cycles on an engine; return the seconds that took, by wall clock and of CPU."""

BARE, CONTROL, OURS, UNATTRIBUTED, WITHOUT, TOLD, RECORDED, BY_HAND, OTEL = ARMS
SELECT = text("SELECT 1")


async def checkout_block(engine: AsyncEngine, cycles: int) -> tuple[float, float]:
    """Check a connection out and in."""
    began, began_cpu = time.perf_counter(), time.process_time()
    for _ in range(cycles):
        async with engine.connect():
            pass
    return time.perf_counter() - began, time.process_time() - began_cpu


async def statement_block(engine: AsyncEngine, cycles: int) -> tuple[float, float]:
    """Check a connection out, execute one statement, and check it in."""
    began, began_cpu = time.perf_counter(), time.process_time()
    for _ in range(cycles):
        async with engine.connect() as connection:
            await connection.execute(SELECT)
    return time.perf_counter() - began, time.process_time() - began_cpu


def timed(function: Callable[[Any], None], argument: Any) -> tuple[float, float]:
    """Return the seconds that a call takes, by wall clock and of CPU."""
    began, began_cpu = time.perf_counter(), time.process_time()
    function(argument)
    return time.perf_counter() - began, time.process_time() - began_cpu


async def measure(
    url: Any, block: Block, rounds: int, cycles: int, engines: int, rng: random.Random
) -> dict[str, list[tuple[float, float]]]:
    """Return what each round's block took, by arm."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ARMS}
    for part in range(engines):
        made = {name: create_async_engine(url) for name in ARMS}
        kept = {name: attach(made[name]) for name, attach in ARMS.items()}
        for engine in made.values():
            await block(engine, cycles)
        order = list(ARMS)
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            for _ in range(part, rounds, engines):
                rng.shuffle(order)
                for name in order:
                    wall, of_cpu = await block(made[name], cycles)
                    if name in (TOLD, RECORDED):
                        spent = timed(record, kept[name])
                        if name == RECORDED:
                            wall, of_cpu = wall + spent[0], of_cpu + spent[1]
                    seconds[name].append((wall, of_cpu))
                    gc.collect(1)
        finally:
            gc.enable()
            gc.unfreeze()
            for engine in made.values():
                await engine.dispose()
            del kept
    return seconds


def compare(seconds: dict[str, list[tuple[float, float]]], cycles: int) -> dict[str, dict[str, Any]]:
    """Return each arm against the bare block of the same round."""
    base = seconds[BARE]
    compared: dict[str, dict[str, Any]] = {}
    for name, blocks in seconds.items():
        pairs = list(zip(blocks, base, strict=True))
        compared[name] = {
            "ratio": summary([mine[0] / bare[0] for mine, bare in pairs]),
            "ratio_of_cpu": summary([mine[1] / bare[1] for mine, bare in pairs]),
            "ratio_of_fastest_tenth": fastest_tenth(blocks) / fastest_tenth(base),
            "added_cpu_microseconds": summary([(mine[1] - bare[1]) / cycles * 1e6 for mine, bare in pairs]),
            "microseconds": summary([wall / cycles * 1e6 for wall, _ in blocks]),
        }
    return compared


def fastest_tenth(blocks: list[tuple[float, float]]) -> float:
    """Return the tenth percentile of wall-clock times."""
    return sorted(wall for wall, _ in blocks)[len(blocks) // 10]


def budgets(shapes: dict[str, dict[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return what the design allows, with what was measured."""
    checkout, statement = shapes["checkout"], shapes["statement"]
    ours, otel = (checkout[arm]["added_cpu_microseconds"]["median"] for arm in (OURS, OTEL))
    return [
        budget("checkout, everything on, ratio (aim 1.15)", checkout[OURS]["ratio"]["median"], 1.20),
        budget("checkout without attribution, ratio", checkout[UNATTRIBUTED]["ratio"]["median"], 1.12),
        budget("checkout with OpenTelemetry on, ratio", checkout[TOLD]["ratio"]["median"], 1.40),
        budget("checkout with one statement, ratio", statement[OURS]["ratio"]["median"], 1.02),
        budget("what a checkout adds, over what OpenTelemetry's listeners add", ours / otel, 0.25),
    ]


def shown(title: str, arms: dict[str, dict[str, Any]]) -> str:
    """Return one shape's table."""
    head = ("arm", "ratio", "quartiles", "of CPU", "fastest tenth", "adds, us", "quartiles", "us a cycle")
    rows = []
    for name, arm in arms.items():
        ratio, added = arm["ratio"], arm["added_cpu_microseconds"]
        rows.append(
            (
                name,
                f"{ratio['median']:.3f}",
                f"{ratio['q1']:.3f}-{ratio['q3']:.3f}",
                f"{arm['ratio_of_cpu']['median']:.3f}",
                f"{arm['ratio_of_fastest_tenth']:.3f}",
                f"{added['median']:+.2f}",
                f"{added['q1']:+.1f}..{added['q3']:+.1f}",
                f"{arm['microseconds']['median']:.1f}",
            )
        )
    return f"{title}\n" + table(head, rows)


async def run(options: Any) -> dict[str, Any]:
    """Measure both shapes."""
    rng = random.Random(options.seed)
    found = machine()
    shapes = {}
    async with database("postgresql") as url:
        for shape, block, rounds, cycles in (
            ("checkout", checkout_block, options.rounds, options.cycles),
            ("statement", statement_block, 2 * options.rounds, max(1, options.cycles // 4)),
        ):
            seconds = await measure(url, block, rounds, cycles, options.engines, rng)
            shapes[shape] = compare(seconds, cycles)
    return {
        "program": "overhead",
        "machine": found,
        "rounds": options.rounds,
        "cycles": options.cycles,
        "seed": options.seed,
        "shapes": shapes,
        "budgets": budgets(shapes),
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=positive, default=300, help="rounds (%(default)s)")
    parser.add_argument("--cycles", type=positive, default=100, help="cycles a block (%(default)s)")
    parser.add_argument("--engines", type=positive, default=3, help="times engines are made (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the order of the arms (%(default)s)")
    options = parser.parse_args()
    result = asyncio.run(run(options))
    titles = {"checkout": "checkout + checkin", "statement": "checkout + SELECT 1 + checkin"}
    text_ = "".join(shown(titles[name], arms) + "\n\n" for name, arms in result["shapes"].items())
    report(result, text_, as_json=options.as_json)


if __name__ == "__main__":
    main()
