"""One holder of a connection in words: shared by logs, notes and the pytest plugin."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pool_exporter.records import HeldConnection
from pool_exporter.support.text import humanised, visible

FRAMEWORKS = sys.stdlib_module_names | {
    *("sqlalchemy", "asyncpg", "psycopg", "aiosqlite", "asyncmy", "starlette", "fastapi", "litestar"),
    *("uvicorn", "granian", "hypercorn", "anyio", "greenlet", "pool_exporter"),
}
"""Whose steps of a stack say little about the application."""


MAX_STEPS = 3
"""Steps of the application's own that are shown of a stack."""


def described(held: HeldConnection) -> str:
    """Return who holds a connection: the owner, with the function and its line beside it."""
    owner = visible(held.owner)
    where = f"{visible(held.filename)}:{held.lineno}" if held.filename else ""
    if held.function is None:
        return owner
    function = visible(held.function)
    return f"{owner} ({where})" if function == owner else f"{owner} ({function}, {where})"


def doing(held: HeldConnection) -> str:
    """Return what a holder does with its connection."""
    if held.busy:
        return "running a statement"
    idle = "idle in transaction" if held.in_transaction else "idle"
    return f"{idle} for {humanised(held.quiet_seconds)}"


def where_now(stack: Sequence[str]) -> str:
    """Return where a task is, innermost first: its last step, and the last ones of the application's own."""
    own = [step for step in stack if _is_own(step.partition(":")[0])]
    steps = [*stack[-1:], *(step for step in reversed(own) if step != stack[-1])][: 1 + MAX_STEPS]
    return visible(" < ".join(steps), 1000)


def _is_own(module: str) -> bool:
    return module.partition(".")[0] not in FRAMEWORKS
