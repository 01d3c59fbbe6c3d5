"""Measure what a scrape costs, and what it does to the event loop, for 1, 100 and 1,000 pools.

The first pool is a real one: asyncpg on a PostgreSQL server of its own, 200 uses behind it and
three connections out. The others are engines that were never connected; a pool's series are all
there from the start, so each costs the same to render.

For each number of pools, medians over `--scrapes` scrapes of one registry, a third as many of
more than 100 pools:
- CPU of this process, in milliseconds a scrape: of prometheus_client's `generate_latest`, of our
  `metrics_app()` called as an ASGI application, and of prometheus_client's `make_asgi_app()` on
  the same registry; both applications as text, and with gzip as Prometheus asks for it; and of
  ours once more after the real pool has had as many owners as it tells apart
- the text's bytes, and series (lines of samples) a pool
- the event loop's stall and lag, in milliseconds, while an application in that loop answers: a
  heartbeat runs in every turn of the loop. The longest stall is the longest time between two
  beats: of the worst scrape, of the median scrape, and of the worst again as "own": in CPU time of
  this process, so that other work on the machine is left out, and without full collections of
  the garbage collector, whose length is that of the application's heap (here the engines) and
  which any allocation may set off; "full collections" says how long they took, all scrapes
  together. The lag is what a callback due at a random moment of the scrape waits for its turn: its
  median over that time. Measured for both applications called directly, for ours behind uvicorn
  in the same loop, and for nothing at all for as long as a scrape takes (the control)

Besides, for each number of pools: microseconds of CPU that `instrument()` takes an engine, and
the memory that each instrumented pool adds (KiB, traced by tracemalloc). And once, on a pool of
`USES` connections, the bytes that instrumenting adds to a use, and to a connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from _common import arguments, budget, machine, positive, report, table
from prometheus_client import CollectorRegistry, generate_latest, make_asgi_app
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import QueuePool

from pool_exporter import instrument, metrics_app, owner
from pool_exporter.catalogue import MAX_OWNERS
from pool_exporter_lab.demo.database import database
from pool_exporter_lab.demo.web import HOST, listen, served

Scrape = Callable[[], Awaitable[int]]
"""Scrape once; return the bytes of the body."""

USES = 200
HELD = 3
WITH_OWNERS = f"metrics_app, {MAX_OWNERS} owners"
EARLIER_USES = 200
LOOP = (
    "takes",
    "longest_stall_worst",
    "longest_stall_median",
    "longest_own_stall",
    "full_collections",
    "median_lag",
)
"""What is said of the event loop, in the order of the table."""
GZIP = [(b"accept-encoding", b"gzip")]


def unconnected(number: int) -> list[AsyncEngine]:
    """Return engines that are never connected, each with a name of its own."""
    return [create_async_engine(f"postgresql+asyncpg://app@db{i}.example/app") for i in range(number)]


def cpu_milliseconds(function: Callable[[], Any], times: int) -> list[float]:
    """Return the CPU of each call."""
    taken = []
    for _ in range(times):
        began = time.process_time()
        function()
        taken.append((time.process_time() - began) * 1e3)
    return taken


def asgi(app: Any, headers: Sequence[tuple[bytes, bytes]] = ()) -> Scrape:
    """Return a scrape that calls an ASGI application in this loop."""
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/metrics",
        "root_path": "",
        "query_string": b"",
        "headers": list(headers),
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def scrape() -> int:
        size = 0

        async def send(message: Any) -> None:
            nonlocal size
            size += len(message.get("body", b""))
            assert message.get("status", 200) == 200

        await app(dict(scope), receive, send)
        return size

    return scrape


def over_http(port: int) -> Scrape:
    """Return a scrape by a client of a server in this loop."""

    async def scrape() -> int:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        size = 0
        while read := await reader.read(1 << 18):
            size += len(read)
        writer.close()
        return size

    return scrape


class Heartbeat:
    """Note the time in every turn of the event loop: by wall clock, of CPU, of full collections."""

    def __init__(self) -> None:
        self._beats: list[tuple[float, float, float]] = []
        self._stopped = False
        self._collecting = 0.0
        self._began = 0.0

    def _beat(self) -> None:
        self._beats.append((time.perf_counter(), time.process_time(), self._collecting))
        if not self._stopped:
            asyncio.get_running_loop().call_soon(self._beat)

    def _collection(self, phase: str, info: dict[str, int]) -> None:
        if info["generation"] == 2:
            if phase == "start":
                self._began = time.process_time()
            else:
                self._collecting += time.process_time() - self._began

    async def during(self, scrape: Scrape) -> dict[str, float]:
        """Scrape once; return how long that took, stalls, lag and collections, in milliseconds."""
        gc.callbacks.append(self._collection)
        self._beat()
        try:
            await scrape()
        finally:
            gc.callbacks.remove(self._collection)
            self._stopped = True
        self._beats.append((time.perf_counter(), time.process_time(), self._collecting))
        pairs = list(itertools.pairwise(self._beats))
        stalls = [later[0] - earlier[0] for earlier, later in pairs]
        own = [later[1] - earlier[1] - (later[2] - earlier[2]) for earlier, later in pairs]
        return {
            "takes": sum(stalls) * 1e3,
            "longest_stall": max(stalls) * 1e3,
            "longest_own_stall": max(own) * 1e3,
            "median_lag": median_lag(stalls) * 1e3,
            "full_collections": self._collecting * 1e3,
        }


def median_lag(stalls: Sequence[float]) -> float:
    """Return what a callback due at a random moment waits at the median, in the unit of `stalls`.

    Within a stall of s the wait is anything from s to 0, each as likely. So the share of moments
    that wait longer than w is the sum of max(0, s - w) over the sum of s: find where it is a half.
    """
    half = sum(stalls) / 2
    low, high = 0.0, max(stalls)
    for _ in range(40):
        middle = (low + high) / 2
        if sum(max(0.0, stall - middle) for stall in stalls) > half:
            low = middle
        else:
            high = middle
    return high


async def loop_during(scrape: Scrape, times: int) -> dict[str, float]:
    """Return stalls and lag over several scrapes."""
    await scrape()
    found = [await Heartbeat().during(scrape) for _ in range(times)]
    stalls = [one["longest_stall"] for one in found]
    return {
        "takes": statistics.median(one["takes"] for one in found),
        "longest_stall_worst": max(stalls),
        "longest_stall_median": statistics.median(stalls),
        "longest_own_stall": max(one["longest_own_stall"] for one in found),
        "full_collections": sum(one["full_collections"] for one in found),
        "median_lag": statistics.median(one["median_lag"] for one in found),
    }


async def asgi_cpu(scrape: Scrape, times: int) -> dict[str, float]:
    """Return the median CPU of a scrape in milliseconds, and its bytes."""
    taken = []
    size = await scrape()
    for _ in range(times):
        began = time.process_time()
        await scrape()
        taken.append((time.process_time() - began) * 1e3)
    return {"cpu_milliseconds": statistics.median(taken), "bytes": size}


async def measure(url: Any, pools: int, times: int) -> dict[str, Any]:
    """Return everything that is measured of one number of pools."""
    times = times if pools <= 100 else max(1, times // 3)
    memory = pool_memory(pools)
    registry = CollectorRegistry()
    real = create_async_engine(url)
    engines = [real, *unconnected(pools - 1)]
    taken = []
    instrumented = []
    for engine in engines:
        began = time.process_time()
        instrumented.append(instrument(engine, registry=registry))
        taken.append((time.process_time() - began) * 1e6)
    for _ in range(EARLIER_USES):
        async with real.connect() as connection:
            await connection.execute(text("SELECT 1"))
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(real.dispose)
        for _ in range(HELD):
            await stack.enter_async_context(real.connect())
        rendered = generate_latest(registry)
        ours, theirs = metrics_app(registry), make_asgi_app(registry)
        arms = {
            "metrics_app": asgi(ours),
            "metrics_app, gzip": asgi(ours, GZIP),
            "make_asgi_app": asgi(theirs),
            "make_asgi_app, gzip": asgi(theirs, GZIP),
        }
        loop = {name: await loop_during(scrape, times) for name, scrape in arms.items()}
        with listen(0) as listener:
            async with served(ours, listener):
                port = listener.getsockname()[1]
                loop["metrics_app behind uvicorn"] = await loop_during(over_http(port), times)
        seconds = loop["metrics_app"]["takes"] / 1e3
        loop["nothing (control)"] = await loop_during(lambda: asyncio.sleep(seconds, 0), times)
        costs = {name: await asgi_cpu(scrape, times) for name, scrape in arms.items()}
        for number in range(MAX_OWNERS - 1):  # this function is one of them
            with owner(f"GET /benchmarks/{number}"):
                async with real.connect():
                    pass
        costs[WITH_OWNERS] = await asgi_cpu(arms["metrics_app"], times)
        return {
            "instrument_microseconds": statistics.median(taken),
            "instrument_microseconds_last": statistics.median(taken[-10:]),
            "kib_a_pool": memory,
            "series_a_pool": sum(not line.startswith(b"#") for line in rendered.splitlines()) / pools,
            "generate_latest_cpu_milliseconds": statistics.median(
                cpu_milliseconds(lambda: generate_latest(registry), times)
            ),
            "scrape": costs,
            "loop": loop,
        }


def pool_memory(pools: int) -> float:
    """Return the KiB that instrumenting adds to each of so many pools, the collector included."""
    engines = unconnected(pools)
    registry = CollectorRegistry()
    instrument(*unconnected(1), registry=CollectorRegistry())  # what comes once, whatever the number
    with traced() as grown:
        kept = [instrument(engine, registry=registry) for engine in engines]
        result: float = grown() / pools / 1024
    del kept
    return result


@contextlib.contextmanager
def traced() -> Any:
    """Yield a function that returns by how many bytes the memory of Python objects has grown."""
    gc.collect()
    tracemalloc.start()

    def grown() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    try:
        yield grown
    finally:
        tracemalloc.stop()


def use_memory() -> dict[str, float]:
    """Return the bytes that instrumenting adds to a use, and to a connection that is not in use."""
    with tempfile.TemporaryDirectory() as directory:
        plain, watched = (
            _uses(f"sqlite:///{directory}/{name}.db", name == "watched") for name in ("plain", "watched")
        )
    return {name: watched[name] - plain[name] for name in plain}


def _uses(url: str, watch: bool) -> dict[str, float]:
    engine = create_engine(url, poolclass=QueuePool, pool_size=USES)
    if watch:
        instrument(engine, registry=None)
    with engine.connect():
        pass
    with traced() as grown:
        for connection in [engine.connect() for _ in range(USES)]:
            connection.close()
        del connection
        connections = grown()
        held = [engine.connect() for _ in range(USES)]
        uses = grown() - connections
    for connection in held:
        connection.close()
    engine.dispose()
    return {"bytes_a_use": uses / USES, "bytes_a_connection": connections / (USES - 1)}


def budgets(by_pools: dict[int, dict[str, Any]], use: dict[str, float]) -> list[dict[str, Any]]:
    """Return what the design allows, with what was measured."""
    found = []
    one, thousand = by_pools.get(1), by_pools.get(1000)
    if one is not None:
        cpu = one["scrape"]["metrics_app"]["cpu_milliseconds"]
        found.append(budget("scrape of one pool, metrics_app", cpu, 1.5, "ms of CPU"))
        cpu = one["scrape"][WITH_OWNERS]["cpu_milliseconds"]
        found.append(budget(f"scrape of one pool, {WITH_OWNERS}", cpu, 2.5, "ms of CPU"))
    if thousand is not None:
        for name in ("metrics_app", "metrics_app, gzip"):
            loop = thousand["loop"][name]
            found += [
                budget(f"1,000 pools, {name}, longest own stall", loop["longest_own_stall"], 20, "ms of CPU"),
                budget(
                    f"1,000 pools, {name}, longest stall of the median scrape",
                    loop["longest_stall_median"],
                    20,
                    "ms",
                ),
                budget(f"1,000 pools, {name}, median lag", loop["median_lag"], 1, "ms"),
            ]
    most = max(by_pools)
    found += [
        budget(
            f"instrument(), {most} pools", by_pools[most]["instrument_microseconds"] / 1e3, 1, "ms of CPU"
        ),
        budget("memory a use", use["bytes_a_use"] / 1024, 1, "KiB"),
    ]
    if most >= 100:  # fewer do not share what a registry has once, some 90 KiB
        found.append(budget(f"memory a pool, {most} pools", by_pools[most]["kib_a_pool"], 50, "KiB"))
    return found


def shown(result: dict[str, Any]) -> str:
    """Return the tables."""
    parts = []
    costs = []
    for pools, one in result["pools"].items():
        costs.append(
            (f"{pools} pools, generate_latest", f"{one['generate_latest_cpu_milliseconds']:,.2f}", "")
        )
        costs += [
            (f"{pools} pools, {name}", f"{scrape['cpu_milliseconds']:,.2f}", f"{scrape['bytes']:,}")
            for name, scrape in one["scrape"].items()
        ]
    parts.append(table(("a scrape of", "ms of CPU", "bytes"), costs))
    loops = [
        (
            f"{pools} pools, {name}",
            *(f"{loop[key]:,.2f}" for key in LOOP),
        )
        for pools, one in result["pools"].items()
        for name, loop in one["loop"].items()
    ]
    head = (
        "the loop during a scrape, ms",
        "takes",
        "longest stall",
        "of median scrape",
        "own",
        "full collections",
        "median lag",
    )
    parts.append(table(head, loops))
    once = [
        (
            str(pools),
            f"{one['series_a_pool']:.1f}",
            f"{one['instrument_microseconds']:.0f}",
            f"{one['instrument_microseconds_last']:.0f}",
            f"{one['kib_a_pool']:.1f}",
        )
        for pools, one in result["pools"].items()
    ]
    parts.append(table(("pools", "series a pool", "instrument(), us", "of the last ten", "KiB a pool"), once))
    use = result["use"]
    parts.append(
        f"instrumenting adds {use['bytes_a_use']:.0f} bytes to a use, {use['bytes_a_connection']:.0f} to a connection"
    )
    return "\n\n".join(parts) + "\n"


async def run(options: Any) -> dict[str, Any]:
    """Measure every number of pools."""
    found = machine()
    use = use_memory()
    async with database("postgresql") as url:
        by_pools = {pools: await measure(url, pools, options.scrapes) for pools in sorted(set(options.pools))}
    return {
        "program": "scrape",
        "machine": found,
        "scrapes": options.scrapes,
        "pools": by_pools,
        "use": use,
        "budgets": budgets(by_pools, use),
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument(
        "--pools", type=positive, nargs="+", default=[1, 100, 1000], help="how many pools (%(default)s)"
    )
    parser.add_argument("--scrapes", type=positive, default=15, help="of each kind (%(default)s)")
    options = parser.parse_args()
    result = asyncio.run(run(options))
    report(result, shown(result), as_json=options.as_json)


if __name__ == "__main__":
    main()
