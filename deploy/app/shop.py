"""Run the demo's shop on a database of its own choosing, with the clients of one scenario.

DATABASE_URL names a PostgreSQL database; SCENARIO one of `pool-exporter demo --help`, but for `restart`: it is not
this program's server. It serves /metrics and the status page at /pools/ on HOST and PORT, by default 127.0.0.1 and
8000; a container has to name 0.0.0.0.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys

import uvicorn
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import create_async_engine

from pool_exporter import instrument, metrics_app, status_app
from pool_exporter_lab.demo.application import application
from pool_exporter_lab.demo.collector import collecting
from pool_exporter_lab.demo.scenarios import POLICY, SCENARIOS, Scenario
from pool_exporter_lab.demo.state import Shop
from pool_exporter_lab.demo.tables import prepare
from pool_exporter_lab.demo.workload import workload

PLAYED = {name: scenario for name, scenario in SCENARIOS.items() if not scenario.restarts}
HIGHEST_PORT = 65535


def chosen_scenario() -> Scenario:
    """Return the scenario that SCENARIO names; end with a sentence if it names none."""
    name = os.environ.get("SCENARIO", "leak")
    if name not in PLAYED:
        sys.exit(f"SCENARIO={name!r}: expected one of {', '.join(PLAYED)}")
    return PLAYED[name]


def chosen_database() -> URL:
    """Return where DATABASE_URL leads; end with a sentence, without its password, if it leads nowhere."""
    example = "as in postgresql+asyncpg://shop@database/shop"
    if not os.environ.get("DATABASE_URL"):
        sys.exit(f"DATABASE_URL is not set; name a PostgreSQL database, {example}")
    try:
        url = make_url(os.environ["DATABASE_URL"])
    except (ArgumentError, ValueError):
        sys.exit(f"DATABASE_URL: cannot be read as an address; name a PostgreSQL database, {example}")
    if url.drivername != "postgresql+asyncpg":
        sys.exit(f"DATABASE_URL: its driver is {url.drivername}; name another, {example}")
    return url


def chosen_port() -> int:
    """Return the port that PORT names; end with a sentence if it names none."""
    text = os.environ.get("PORT", "8000")
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= HIGHEST_PORT):
        sys.exit(f"PORT={text!r}: expected a number from 1 to {HIGHEST_PORT}")
    return int(text)


async def main(scenario: Scenario, database: URL, host: str, port: int) -> None:
    """Serve until a signal, with the clients of the scenario running."""
    engine = create_async_engine(
        database,
        pool_size=5,
        max_overflow=5,
        pool_timeout=1,
        pool_pre_ping=True,
        connect_args={"server_settings": dict(scenario.settings)},
    )
    instrument(engine, name="shop", leaks=POLICY)
    await prepare(engine)
    shop = Shop(engine)
    app = application(shop, metrics_app(), status_app(), lambda error: None)
    server = uvicorn.Server(uvicorn.Config(app, host=host, port=port, access_log=False))
    serving = asyncio.create_task(server.serve())
    while not server.started and not serving.done():
        await asyncio.sleep(0.05)
    async with contextlib.AsyncExitStack() as stack:
        if scenario.collects:
            await stack.enter_async_context(collecting())
        await stack.enter_async_context(workload(scenario.crowds, "127.0.0.1", port, seed=1))
        await serving
    await shop.close()
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(
        main(chosen_scenario(), chosen_database(), os.environ.get("HOST", "127.0.0.1"), chosen_port())
    )
