"""Look at what goes on in an event loop just before it is closed, which cancels it."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from pool_exporter.plugins.pytest.patches import Replacements

RUNNERS = ("asyncio", "backports.asyncio.runner", "anyio._backends._asyncio")
"""Modules that have a `Runner`; the last two have one of their own on Python 3.10."""


class LoopEnds:
    """Enter a context around each close of a `Runner`, as `asyncio.run()` and test plugins have it."""

    def __init__(self, around: Callable[[], AbstractContextManager[None]]) -> None:
        self._around = around
        self._known: set[Any] = set()
        self._replaced = Replacements()

    def start(self) -> None:
        """Begin with the runners that are imported by now; call it again for those that come later."""
        for name in RUNNERS:
            runner = getattr(sys.modules.get(name), "Runner", None)
            if runner is not None and runner not in self._known:
                self._known.add(runner)
                self._replaced.put(runner, "close", self._followed(runner.close))

    def stop(self) -> None:
        """Leave the runners as they were."""
        self._replaced.undo()
        self._known.clear()

    def _followed(self, close: Callable[[Any], None]) -> Callable[[Any], None]:
        @functools.wraps(close)
        def followed(runner: Any) -> None:
            with self._around():
                close(runner)

        return followed
