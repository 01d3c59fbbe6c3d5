"""Play what happens to the database, or to the way to it: restarts, refusals, silence, cuts, delays."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pool_exporter_lab.drill.crowds import browsers, in_waves
from pool_exporter_lab.drill.scale import minutes
from pool_exporter_lab.drill.scenario import (
    CONNECTION_CHURN,
    DATABASE_UNREACHABLE,
    FAILOVER_STORM,
    PRE_PING_COST,
    STALE_CONNECTIONS,
    STALE_MINUTES,
    STRANDED_WAITERS,
    TELEMETRY_MISSING,
    TIMEOUTS,
    Scenario,
    fault,
)

if TYPE_CHECKING:
    from pool_exporter_lab.drill.stage import Stage

_PRESENCE_MINUTES = 5
"""How often it is recorded that an instance has a pool: what has not been for so long, nobody misses."""
_WARM_UP_MINUTES = 5
_SETTLED_MINUTES = 12
"""From when on an instance is not young any more, whose reconnecting is no news."""
CONNECT_TIMEOUT_SECONDS = 60.0
"""How long asyncpg tries to connect by default, in production."""


async def restart(stage: Stage) -> None:
    """Restart the server below three instances."""
    server = await stage.own_server()
    for _ in range(3):
        await stage.load(await stage.application(server.url()), browsers(5))
    await stage.minutes(_SETTLED_MINUTES)
    stage.begin()
    await server.stop()
    await server.start()


async def failover(stage: Stage) -> None:
    """Kill all backends of three instances at once."""
    for _ in range(3):
        await stage.load(await stage.application(), browsers(5))
    await stage.minutes(_SETTLED_MINUTES)
    stage.begin()
    await stage.servers.postgresql.kill_backends(stage.name)


async def down(stage: Stage) -> None:
    """Stop the server for good."""
    server = await stage.own_server()
    await stage.load(await stage.application(server.url()), browsers())
    await stage.minutes(_WARM_UP_MINUTES)
    stage.begin()
    await server.stop()


async def refused(stage: Stage) -> None:
    """Come back after a restart, when others have taken all of the server's connections."""
    server = await stage.own_server("max_connections=12", "superuser_reserved_connections=3")
    await server.execute("create role app login")
    application = await stage.application(server.url(user="app"), max_overflow=2)
    await stage.load(application, browsers())
    await stage.minutes(_WARM_UP_MINUTES)
    await application.stop()
    for _ in range(9):
        await stage.stack.enter_async_context(server.observer(user="app"))
    stage.begin()
    await application.start()


async def connects_hang(stage: Stage) -> None:
    """Cut the connections, and let new ones be accepted by a network that answers nothing."""
    proxy, url = await stage.proxy()
    application = await stage.application(url, connect={"timeout": minutes(CONNECT_TIMEOUT_SECONDS / 60)})
    await stage.load(application, browsers(14))
    await stage.minutes(_WARM_UP_MINUTES)
    stage.begin()
    proxy.silent = True
    proxy.cut()


async def idle_cut(stage: Stage) -> None:
    """Cut connections that are idle for half a minute, as load balancers and firewalls do."""
    proxy, url = await stage.proxy()
    application = await stage.application(url)
    await stage.load(application, in_waves(5))
    await stage.minutes(_WARM_UP_MINUTES)
    stage.begin()
    proxy.idle_seconds = minutes(0.5)


async def slow_network(stage: Stage) -> None:
    """Make each round trip to the database 30 ms longer."""
    proxy, url = await stage.proxy()
    application = await stage.application(url)
    await stage.load(application, browsers(3, statements=(0.001,)))
    await stage.minutes(_WARM_UP_MINUTES)
    stage.begin()
    proxy.delay_seconds = 0.03


async def wrong_password(stage: Stage) -> None:
    """Change the password and not the application's, which renews its connections every two minutes."""
    server = stage.servers.postgresql
    password = secrets.token_hex()
    await server.set_password(stage.name, password)
    url = (await stage.url()).set(username=stage.name, password=password)
    application = await stage.application(url, pool_recycle=minutes(2))
    await stage.load(application, browsers())
    await stage.minutes(_WARM_UP_MINUTES)
    stage.begin()
    await server.set_password(stage.name, secrets.token_hex())


async def short_recycle(stage: Stage) -> None:
    """Start with a pool_recycle of 6 seconds."""
    application = await stage.application(pool_recycle=minutes(0.1))
    stage.begin()
    await stage.load(application, browsers(3))


async def telemetry_lost(stage: Stage) -> None:
    """Take the instrumentation away while the application goes on."""
    application = await stage.application()
    await stage.load(application, browsers())
    await stage.minutes(2 * _PRESENCE_MINUTES)
    stage.begin()
    await application.post("/uninstrument")


DATABASE: Mapping[str, Scenario] = {
    "server-restart": fault("the server restarts below three instances", restart, FAILOVER_STORM),
    "failover": fault("all backends of three instances are killed at once", failover, FAILOVER_STORM),
    "server-down": fault("the server is gone", down, DATABASE_UNREACHABLE),
    "refused": fault(
        "an instance restarts, and max_connections is used up by others", refused, DATABASE_UNREACHABLE
    ),
    "connects-hang": fault(
        "connections are accepted by a network that then answers nothing",
        connects_hang,
        DATABASE_UNREACHABLE,
        also=(STRANDED_WAITERS, TIMEOUTS),
        because="until that is sure callers time out, and failed connects strand those who queue; then these are muted",
    ),
    "idle-cut": fault(
        "a proxy cuts connections that are idle",
        idle_cut,
        STALE_CONNECTIONS,
        also=(PRE_PING_COST,),
        because="through the proxy a ping may take as long as the short statements do",
        detection_minutes=STALE_MINUTES,
    ),
    "slow-network": fault("each round trip takes 30 ms more, pings included", slow_network, PRE_PING_COST),
    "wrong-password": fault(
        "the password is rotated, and the application keeps the old one", wrong_password, DATABASE_UNREACHABLE
    ),
    "short-recycle": fault("pool_recycle is six seconds", short_recycle, CONNECTION_CHURN),
    "telemetry-lost": fault(
        "the application runs on and exports its pool no more", telemetry_lost, TELEMETRY_MISSING
    ),
}
