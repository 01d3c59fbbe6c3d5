"""Put a leak of a test into a sentence: who, where, for how long, doing what, and the remedy."""

from __future__ import annotations

from pool_exporter.messages.holders import described, doing
from pool_exporter.plugins.pytest.tracked_use import Leak
from pool_exporter.support.text import humanised, visible


def sentence(leak: Leak) -> str:
    """Return the sentence, with the place where the holding task is now in a second line."""
    held = leak.held
    said = (
        f"leaked connection of pool {visible(held.pool)!r}, acquired by {described(held)}: "
        f"{_found(leak)}, held for {humanised(held.age_seconds)}{_state(leak)}; {_remedy(leak)}"
    )
    if leak.background and held.stack:
        where = visible(" > ".join(held.stack), 1000)
        said += f"\n  its task {visible(held.task_name or '')!r} waits at {where}"
    return said


def _found(leak: Leak) -> str:
    if leak.kind == "collected":
        return "dropped without close() and taken by the garbage collector"
    if leak.kind == "loop_closed":
        return "given back only because its event loop was closed"
    return "still open"


def _state(leak: Leak) -> str:
    if leak.kind == "collected":
        return ""
    if leak.held.busy and not leak.running:
        return ", with a stream (a server-side cursor) open or its driver at work"
    return f", {doing(leak.held)}"


def _remedy(leak: Leak) -> str:
    if leak.kind == "collected":
        return "use `with` or `async with`, or close() it in a `finally`"
    if leak.background:
        return "end the task, and await it, before the test ends"
    before = " before engine.dispose(), which leaves it open" if leak.orphaned else ""
    if leak.held.busy:
        return f"read the stream to its end, or close it and its connection{before}"
    end = "commit or roll back, and close it" if leak.held.in_transaction else "close it"
    return f"{end}{before}: with `with` or `async with`, or in the teardown of its fixture"
