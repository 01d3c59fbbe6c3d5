"""Give an application parts of its own that can be made to fail: listeners on its pool, a filter in its log."""

from __future__ import annotations

import logging
from collections.abc import Callable

from sqlalchemy import event

from pool_exporter_lab.drill.state import State

LISTENERS = ("checkin", "checkout")
"""The pool's events that the application listens to."""
LOG = "log"


def bring_along(state: State) -> None:
    """Install them, before the engine is used; they do nothing until `State.failures` says so."""
    for name in LISTENERS:
        event.listen(state.engine.sync_engine, name, _listener(state, name))
    handler = logging.StreamHandler()
    handler.addFilter(_Filter(state))
    logging.getLogger().addHandler(handler)


def _listener(state: State, name: str) -> Callable[..., None]:
    def listen(*arguments: object) -> None:
        state.stumble(name)

    return listen


class _Filter(logging.Filter):
    """Stand for a filter that reads a field which the application's own records have, and ours have not."""

    def __init__(self, state: State) -> None:
        super().__init__()
        self._state = state

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass."""
        if record.name.startswith("pool_exporter"):
            self._state.stumble(LOG)
        return True
