"""Be an application with odd pools, for a test: no limit, no pool at all, an awkward name, callers that give up."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time

from sqlalchemy import AsyncAdaptedQueuePool, Engine, NullPool, QueuePool, create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

from pool_exporter import instrument, start_server

AWKWARD = 'o"dd\\ $pool {ü|.*} 漢字'
"""A name of everything that a regular expression, a string of PromQL and a URL must escape."""
URL = "sqlite:///file:odd?mode=memory&cache=shared&uri=true"


def main(port: int) -> None:
    """Serve the odd pools' metrics and use the pools until killed."""
    engines: list[Engine] = [
        create_engine(URL, poolclass=QueuePool, pool_size=2, max_overflow=1, pool_recycle=600),
        create_engine(URL, poolclass=NullPool),
        create_engine(URL, poolclass=QueuePool, pool_size=1, max_overflow=-1),
    ]
    for engine, name in zip(engines, (AWKWARD, "null", "endless"), strict=True):
        instrument(engine, name=name)
    threading.Thread(target=lambda: asyncio.run(give_up()), daemon=True).start()
    start_server(port)
    while True:
        for engine in engines:
            with engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        time.sleep(0.1)


async def give_up() -> None:
    """Wait for a connection that is out, and be cancelled, again and again."""
    engine = create_async_engine(
        "sqlite+aiosqlite:///file:patience?mode=memory&uri=true",
        poolclass=AsyncAdaptedQueuePool,
        pool_size=1,
        max_overflow=0,
    )
    instrument(engine, name="impatient")
    async with engine.connect():
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(engine.connect().__aenter__(), 0.2)


if __name__ == "__main__":
    main(int(sys.argv[1]))
