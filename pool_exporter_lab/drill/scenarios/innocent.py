"""Play what looks like trouble and is none: nobody is to be disturbed."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pool_exporter_lab.drill.crowds import browsers, crowd
from pool_exporter_lab.drill.scale import minutes
from pool_exporter_lab.drill.scenario import Scenario, innocent

if TYPE_CHECKING:
    from pool_exporter_lab.drill.stage import Stage

_WARM_UP_MINUTES = 5
_SHOW_MINUTES = 20
_SIDECAR_MINUTES = 0.75
"""How long a sidecar of a mesh lets nothing through after the start."""


async def burst(stage: Stage) -> None:
    """Fill the pool for less than a minute, twice."""
    application = await stage.application()
    await stage.load(application, browsers())
    await stage.minutes(_WARM_UP_MINUTES)
    stage.begin()
    for _ in range(2):
        for _ in range(20):
            stage.often(lambda: application.get("/work?seconds=0.5"), seconds=lambda: math.inf)
        await stage.minutes(_SHOW_MINUTES / 2)


async def analytics(stage: Stage) -> None:
    """Run one query of 20 minutes beside the day's work."""
    application = await stage.application()
    await stage.load(application, browsers())
    await stage.minutes(_WARM_UP_MINUTES)
    stage.begin()
    stage.often(lambda: application.get(f"/work?seconds={minutes(20):g}"), seconds=lambda: math.inf)
    await stage.minutes(_SHOW_MINUTES)


async def long_stream(stage: Stage) -> None:
    """Export rows from a server-side cursor for 20 minutes."""
    application = await stage.application()
    await stage.load(application, browsers())
    await stage.minutes(_WARM_UP_MINUTES)
    stage.begin()
    stage.often(lambda: application.get(f"/export?seconds={minutes(20):g}"), seconds=lambda: math.inf)
    await stage.minutes(_SHOW_MINUTES)


async def listener(stage: Stage) -> None:
    """Keep one connection for LISTEN, exempt by its owner."""
    application = await stage.application()
    await application.post("/listen")
    await stage.load(application, browsers())
    stage.begin()
    await stage.minutes(_SHOW_MINUTES)


async def batch(stage: Stage) -> None:
    """Run a batch job that holds three connections for half an hour, exempt by its owner."""
    application = await stage.application()
    await stage.load(application, browsers())
    await stage.minutes(_WARM_UP_MINUTES)
    stage.begin()
    for _ in range(3):
        await application.post(f"/batch?seconds={minutes(30):g}&pause=0.5")
    await stage.minutes(_SHOW_MINUTES)


async def batch_ends(stage: Stage) -> None:
    """Run an undeclared job of ten minutes, statement after statement, and see it end."""
    application = await stage.application()
    await stage.load(application, browsers())
    await stage.minutes(_WARM_UP_MINUTES)
    stage.begin()
    for _ in range(3):
        await application.post(f"/batch?seconds={minutes(10):g}&pause=0.2&owner=reindex")
    await stage.minutes(_SHOW_MINUTES)


async def cron(stage: Stage) -> None:
    """Start twelve jobs of three seconds at the moment of each scrape: each scrape sees the pool full."""
    application = await stage.application(pool_size=10, max_overflow=0)
    await stage.load(application, browsers(2))
    await stage.minutes(_WARM_UP_MINUTES)
    stage.begin()
    await application.post(f"/cron?jobs=12&seconds={minutes(0.05):g}")
    await stage.minutes(_SHOW_MINUTES)


async def cold_start(stage: Stage) -> None:
    """Start under full load: every connection is new."""
    stage.begin()
    application = await stage.application()
    await stage.load(application, browsers(12))
    await stage.minutes(_SHOW_MINUTES)


async def rolling_restart(stage: Stage) -> None:
    """Restart three instances, one after the other."""
    applications = [await stage.application() for _ in range(3)]
    for application in applications:
        await stage.load(application, browsers(2))
    await stage.minutes(_WARM_UP_MINUTES)
    stage.begin()
    for application in applications:
        await application.stop()
        await application.start()
        await stage.minutes(3)
    await stage.minutes(_SHOW_MINUTES / 2)


async def slow_sidecar_restart(stage: Stage) -> None:
    """Replace instances one every half minute; none of the new ones gets through for its first 45 seconds.

    So one of them fails at each moment for longer than an unreachable database is given.
    """
    old = [await stage.application() for _ in range(3)]
    for application in old:
        await stage.load(application, browsers(2))
    await stage.minutes(_WARM_UP_MINUTES)
    sidecars = [await stage.proxy() for _ in range(7)]
    new = [await stage.application(url, started=False) for _, url in sidecars]
    await stage.minutes(3)  # until Prometheus knows of them
    stage.begin()

    async def replace(number: int) -> None:
        (proxy, _), application = sidecars[number], new[number]
        await stage.minutes(number / 2)
        proxy.refuses = True
        await application.start()
        await stage.load(application, browsers(2))
        await stage.minutes(_SIDECAR_MINUTES)
        proxy.refuses = False
        if old:
            await stage.retire(old.pop())

    await asyncio.gather(*map(replace, range(len(new))))
    await stage.minutes(_SHOW_MINUTES / 2)


async def deploy(stage: Stage) -> None:
    """Dispose of the pool under load, three times."""
    application = await stage.application()
    await stage.load(application, browsers(8))
    await stage.minutes(_WARM_UP_MINUTES)
    stage.begin()
    for _ in range(3):
        await application.post("/dispose")
        await stage.minutes(_SHOW_MINUTES / 3)


async def idle_night(stage: Stage) -> None:
    """Go quiet after the day's work: nobody asks anything."""
    application = await stage.application()
    day = minutes(_WARM_UP_MINUTES)
    await stage.load(application, crowd(6, "/work", active=lambda seconds: 6 if seconds < day else 0))
    await stage.minutes(_WARM_UP_MINUTES)
    stage.begin()
    await stage.minutes(_SHOW_MINUTES * 1.5)


async def pool_of_one(stage: Stage) -> None:
    """Serve from one connection, which five clients share politely."""
    application = await stage.application(pool_size=1, max_overflow=0)
    await stage.load(application, browsers(5))
    stage.begin()
    await stage.minutes(_SHOW_MINUTES)


async def null_pool(stage: Stage) -> None:
    """Open a connection for each use, as behind a pooler of the database's."""
    application = await stage.application(null_pool=True)
    await stage.load(application, browsers(3))
    stage.begin()
    await stage.minutes(_SHOW_MINUTES)


async def scrape_gap(stage: Stage) -> None:
    """Lose the scrapes of two minutes, as at a restart of Prometheus."""
    application = await stage.application()
    await stage.load(application, browsers())
    await stage.minutes(_WARM_UP_MINUTES)
    stage.begin()
    stage.servers.prometheus.scrape(stage.name, [])
    await stage.minutes(2)
    stage.servers.prometheus.scrape(stage.name, [application.port])
    await stage.minutes(_SHOW_MINUTES)


async def four_workers(stage: Stage) -> None:
    """Serve from four worker processes behind one port, each scrape answered by any of them."""
    application = await stage.application(workers=4)
    await stage.load(application, browsers(8))
    stage.begin()
    await stage.minutes(_SHOW_MINUTES)


async def low_traffic(stage: Stage) -> None:
    """Serve one request every few minutes."""
    application = await stage.application()
    await stage.load(application, crowd(1, "/work", pause=minutes(2)))
    stage.begin()
    await stage.minutes(_SHOW_MINUTES * 1.5)


INNOCENT: Mapping[str, Scenario] = {
    "burst": innocent("the pool is full for half a minute, twice", burst, queues=True),
    "analytics": innocent("one query runs for twenty minutes", analytics),
    "long-stream": innocent("an export streams for twenty minutes from a server-side cursor", long_stream),
    "listener": innocent("a LISTEN worker keeps its connection, exempt by its owner", listener),
    "batch": innocent("a nightly batch holds three connections, exempt by its owner", batch),
    "batch-ends": innocent(
        "an undeclared job of ten minutes keeps three connections busy, and ends", batch_ends
    ),
    "cron": innocent(
        "twelve jobs start at the moment of each scrape, which so sees a full pool", cron, queues=True
    ),
    "cold-start": innocent("an application starts under full load", cold_start),
    "rolling-restart": innocent("three instances restart, one after the other", rolling_restart),
    "slow-sidecar-restart": innocent(
        "instances are replaced, and none connects for its first 45 seconds", slow_sidecar_restart
    ),
    "deploy": innocent("the pool is disposed of under load, three times", deploy),
    "idle-night": innocent("nobody asks anything after a busy day", idle_night),
    "pool-of-one": innocent("five clients share a pool of one connection", pool_of_one, queues=True),
    "null-pool": innocent("NullPool: a connection is opened for each use", null_pool),
    "scrape-gap": innocent("two minutes of scrapes are lost", scrape_gap),
    "four-workers": innocent("four worker processes share one port", four_workers),
    "low-traffic": innocent("one request every few minutes", low_traffic),
}
