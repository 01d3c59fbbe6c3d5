"""Read the JSON of a status page back into records, whatever version or mischief sent it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pool_exporter.cli.errors import CommandError
from pool_exporter.records import HeldConnection


@dataclass(frozen=True, slots=True)
class Pool:
    """Hold what the commands need of one pool; `raw` is the part of the document it was read from."""

    name: str
    verdict: str
    held: tuple[HeldConnection, ...]
    raw: Mapping[str, Any]


def pools_of(document: Any, url: str) -> list[Pool]:
    """Return the pools of a status page's document; raise `CommandError` if it is none."""
    pools = document.get("pools") if isinstance(document, dict) else None
    if not isinstance(pools, list) or not all(isinstance(pool, dict) for pool in pools):
        raise CommandError(
            f"{url}: answered JSON, but not that of a status page; give the address where status_app() is served"
        )
    return [_pool(pool) for pool in pools]


def _pool(raw: Mapping[str, Any]) -> Pool:
    name = _text(raw, "name") or "?"
    found = raw.get("verdict")
    held = raw.get("held")
    holders = [one for one in held if isinstance(one, dict)] if isinstance(held, list) else []
    return Pool(
        name=name,
        verdict=(_text(found, "text") if isinstance(found, dict) else None) or "no verdict",
        held=tuple(_holder(one, name) for one in holders),
        raw=raw,
    )


def _holder(raw: Mapping[str, Any], pool: str) -> HeldConnection:
    stack = raw.get("stack")
    return HeldConnection(
        pool=pool,
        owner=_text(raw, "owner") or "unknown",
        function=_text(raw, "function"),
        filename=_text(raw, "filename"),
        lineno=_whole(raw, "lineno"),
        task_name=_text(raw, "task_name"),
        trace_id=_text(raw, "trace_id"),
        age_seconds=_seconds(raw, "age_seconds"),
        quiet_seconds=_seconds(raw, "quiet_seconds"),
        busy=raw.get("busy") is True,
        running=raw.get("running") is True,
        in_transaction=raw.get("in_transaction") is True,
        backend_pid=_whole(raw, "backend_pid"),
        local_port=_whole(raw, "local_port"),
        overdue=_text(raw, "overdue"),
        exempt=raw.get("exempt") is True,
        statement=_text(raw, "statement"),
        stack=tuple(frame for frame in stack if isinstance(frame, str)) if isinstance(stack, list) else (),
    )


def _text(raw: Mapping[str, Any], key: str) -> str | None:
    value = raw.get(key)
    return value if isinstance(value, str) else None


def _whole(raw: Mapping[str, Any], key: str) -> int | None:
    value = raw.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _seconds(raw: Mapping[str, Any], key: str) -> float:
    value = raw.get(key)
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else 0.0
