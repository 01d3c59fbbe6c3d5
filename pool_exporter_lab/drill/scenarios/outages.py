"""Play outages that are harder to see: connects that never end, some that fail, cuts found in use, and one that ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pool_exporter_lab.drill.crowds import browsers, in_waves
from pool_exporter_lab.drill.scale import minutes
from pool_exporter_lab.drill.scenario import (
    DATABASE_UNREACHABLE,
    FAILED_ACQUIRES,
    STALE_CONNECTIONS,
    STALE_MINUTES,
    STRANDED_WAITERS,
    TIMEOUTS,
    Scenario,
    fault,
)
from pool_exporter_lab.drill.scenarios.database import CONNECT_TIMEOUT_SECONDS

if TYPE_CHECKING:
    from pool_exporter_lab.drill.proxy import Proxy
    from pool_exporter_lab.drill.stage import Stage

_WARM_UP_MINUTES = 5
_OUTAGE_MINUTES = 12
_NEVER_SECONDS = 3600.0
"""Longer than any scenario: what a driver without a connect timeout waits."""


async def _host_gone(stage: Stage, connect_timeout_seconds: float) -> Proxy:
    """Cut the connections, and let new ones be accepted by a network that answers nothing."""
    proxy, url = await stage.proxy()
    application = await stage.application(url, connect={"timeout": connect_timeout_seconds})
    await stage.load(application, browsers(14))
    await stage.minutes(_WARM_UP_MINUTES)
    stage.begin()
    proxy.silent = True
    proxy.cut()
    return proxy


async def hang_forever(stage: Stage) -> None:
    """Let connects hang without a connect timeout: no attempt ever fails, and callers queue and time out."""
    await _host_gone(stage, _NEVER_SECONDS)


async def recovery(stage: Stage) -> None:
    """Lose the database's host, and have it again after a while."""
    proxy = await _host_gone(stage, minutes(CONNECT_TIMEOUT_SECONDS / 60))
    await stage.minutes(_OUTAGE_MINUTES)
    proxy.silent = False


async def partly_refused(stage: Stage) -> None:
    """Leave three of the server's connections to a pool that needs more."""
    server = await stage.own_server("max_connections=12", "superuser_reserved_connections=3")
    await server.execute("create role app login")
    application = await stage.application(server.url(user="app"))
    await stage.load(application, browsers(2))
    await stage.minutes(_WARM_UP_MINUTES)
    for _ in range(6):
        await stage.stack.enter_async_context(server.observer(user="app"))
    stage.begin()
    await stage.load(application, browsers(10, statements=(0.05, 0.1)))


async def cut_without_ping(stage: Stage) -> None:
    """Cut connections that are idle for half a minute, of a pool that does not look before it gives one out."""
    proxy, url = await stage.proxy()
    application = await stage.application(url, pool_pre_ping=False)
    await stage.load(application, in_waves(5))
    await stage.minutes(_WARM_UP_MINUTES)
    stage.begin()
    proxy.idle_seconds = minutes(0.5)


_BEFORE_UNREACHABLE = "until the outage is sure callers time out, and failed connects strand those who queue; then these are muted"

OUTAGES: Mapping[str, Scenario] = {
    "hang-forever": fault(
        "connects hang, and the driver has no connect timeout",
        hang_forever,
        DATABASE_UNREACHABLE,
        also=(TIMEOUTS,),
        because="until the outage is sure callers time out; then that is muted",
        says=("unreachable",),
    ),
    "recovery": fault(
        "the database's host is gone for twelve minutes, and comes back",
        recovery,
        DATABASE_UNREACHABLE,
        also=(TIMEOUTS, STRANDED_WAITERS),
        because=_BEFORE_UNREACHABLE,
        ends=True,
    ),
    "partly-refused": fault(
        "max_connections leaves the pool less than it needs: some acquires fail",
        partly_refused,
        FAILED_ACQUIRES,
    ),
    "cut-without-ping": fault(
        "a proxy cuts connections that are idle, and there is no pool_pre_ping",
        cut_without_ping,
        STALE_CONNECTIONS,
        tells={STALE_CONNECTIONS: ("Found in use, at the price of an error: 127.0.0.1:",)},
        detection_minutes=STALE_MINUTES,
    ),
}
