"""Run work until a signal ends it, and let it clean up."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Coroutine

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


async def until_signal(work: Coroutine[object, object, int | None]) -> int:
    """Return what `work` returns (None is 0), or 128 + the signal that cancelled it."""
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(work)
    received: list[int] = []

    def stop(number: int) -> None:
        # A further signal cuts short what is awaited while closing, never the clean-up itself.
        received.append(number)
        task.cancel()

    for name in _SIGNALS:
        number = getattr(signal, name, None)
        with contextlib.suppress(NotImplementedError):  # Windows: asyncio.run handles Ctrl-C
            if number is not None:
                loop.add_signal_handler(number, stop, number)
    code: int | None = 0
    try:
        code = await task
    except asyncio.CancelledError:
        if not received:
            raise
    return 128 + received[0] if received else code or 0
