"""An application that knows nothing of any instrumentation: hold connections until its input ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys

from sqlalchemy import text
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import create_async_engine


async def main() -> None:
    engine = create_async_engine(
        os.environ["APPLICATION_URL"],
        pool_size=2,
        max_overflow=1,
        pool_timeout=0.05,
        connect_args={"server_settings": {"application_name": os.environ["APPLICATION_NAME"]}},
    )
    first, second, third = [await engine.connect() for _ in range(3)]
    await first.execute(text("select 1"))
    with contextlib.suppress(PoolTimeoutError):
        await engine.connect()
    await third.close()
    print("holding", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await first.close()
    await second.close()
    await engine.dispose()
    print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
