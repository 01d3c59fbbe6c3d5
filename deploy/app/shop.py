"""Run the demo's shop on a database of its own choosing, with the clients of one scenario.

DATABASE_URL names a PostgreSQL database; SCENARIO one of `pool-exporter demo --help`. It serves /metrics and the
status page at /pools/ on HOST and PORT, by default 127.0.0.1 and 8000; a container has to name 0.0.0.0.
"""

from __future__ import annotations

import asyncio
import contextlib
import os

import uvicorn
from sqlalchemy.ext.asyncio import create_async_engine

from pool_exporter import instrument, metrics_app, status_app
from pool_exporter.demo.application import application
from pool_exporter.demo.collector import collecting
from pool_exporter.demo.scenarios import POLICY, SCENARIOS
from pool_exporter.demo.state import Shop
from pool_exporter.demo.tables import prepare
from pool_exporter.demo.workload import workload

HOST = os.environ.get("HOST", "127.0.0.1")
PORT = int(os.environ.get("PORT", "8000"))


async def main() -> None:
    """Serve until a signal, with the clients of the scenario running."""
    scenario = SCENARIOS[os.environ.get("SCENARIO", "leak")]
    engine = create_async_engine(
        os.environ["DATABASE_URL"],
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
    server = uvicorn.Server(uvicorn.Config(app, host=HOST, port=PORT, access_log=False))
    serving = asyncio.create_task(server.serve())
    while not server.started and not serving.done():
        await asyncio.sleep(0.05)
    async with contextlib.AsyncExitStack() as stack:
        if scenario.collects:
            await stack.enter_async_context(collecting())
        await stack.enter_async_context(workload(scenario.crowds, "127.0.0.1", PORT, seed=1))
        await serving
    await shop.close()
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main())
