"""Make records of pools, holders and reports whose every value is known."""

from __future__ import annotations

from typing import Any

from pool_exporter.records import (
    HeldConnection,
    HistogramSnapshot,
    LeakReport,
    PoolSample,
    PoolSnapshot,
    PoolStatus,
    TimeoutReport,
)
from tests.exporters.snapshots import INFO

NOW = 1_767_225_600.0  # 2026-01-01 00:00:00 UTC

HOSTILE = {
    "script": "<script>document.body.dataset.pwned = 'script'; document.title = 'pwned'</script>",
    "image": "<img src=x onerror=\"document.body.dataset.pwned = 'image'\">",
    "attribute": "\" onmouseover=\"document.body.dataset.pwned = 'attribute'\" x='",
    "closing": "</title></style></script></main></table><svg onload=\"document.body.dataset.pwned = 'svg'\">",
    "outside": '<link rel="stylesheet" href="http://evil.example/x.css"><img src="http://evil.example/x.png">',
    "refresh": '<meta http-equiv="refresh" content="0;url=http://evil.example/">',
    "newlines": "first\nsecond\r\nthird\tend\x1b[31mred\x00",
    "right-to-left": "\u202emoc.live\u202c \u2066isolated\u2069 \u200f\u200e שלום",
    "long": "x" * 10_000,
    "surrogate": "lone \ud800 surrogate \udfff",
    "combining": "Z" + "\u0301\u0316\u0337" * 60,
}


def _nothing(annotation: str) -> Any:
    """Return a value of no consequence for a field that a test does not name."""
    if "None" in annotation:
        return None
    if annotation.startswith("Mapping"):
        return {}
    if annotation == "HistogramSnapshot":
        return HistogramSnapshot((1.0,), (0, 0), 0.0)
    return {"int": 0, "float": 0.0, "str": "", "bool": False}.get(annotation, ())


def _record(kind: type[Any], known: dict[str, Any], changes: dict[str, Any]) -> Any:
    # As written, which `from __future__ import annotations` keeps; a NamedTuple has them wrapped.
    written = {name: getattr(one, "__forward_arg__", one) for name, one in kind.__annotations__.items()}
    rest = {name: _nothing(annotation) for name, annotation in written.items()}
    return kind(**{**rest, **known, **changes})


def snapshot(name: str = "orders", **changes: Any) -> PoolSnapshot:
    """Make a snapshot of a quiet pool of 10 and 5 more; `changes` replace single fields."""
    known: dict[str, Any] = {
        "name": name,
        "mode": "full",
        "info": {**INFO, "database": "shop"},
        "idle": 3,
        "size": 10,
        "max": 15,
        "pending_requests": {"queued": 0, "connecting": 0, "pinging": 0},
        "oldest_pending_seconds": 0.0,
        "unaccounted_slots": 0,
        "timeout_seconds": 30.0,
        "recycle_seconds": 1800.0,
        "start_time_seconds": NOW - 7800.0,
        "acquires": 12_345,
        "checkouts": 12_345,
        "timeouts": 0,
        "connects": 20,
        "connect_errors": {},
    }
    return _record(PoolSnapshot, known, changes)  # type: ignore[no-any-return]  # it makes any record


def pending(queued: int = 0, connecting: int = 0, pinging: int = 0) -> dict[str, int]:
    return {"queued": queued, "connecting": connecting, "pinging": pinging}


def held(owner: str = "GET /orders/{id}", age: float = 0.04, **changes: Any) -> HeldConnection:
    """Make a holder that acquired `age` seconds ago and has been quiet since."""
    known: dict[str, Any] = {
        "pool": "orders",
        "owner": owner,
        "function": "shop.orders:get_order",
        "filename": "/srv/shop/orders.py",
        "lineno": 42,
        "task_name": "Task-7",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "age_seconds": age,
        "quiet_seconds": age,
        "in_transaction": False,
        "backend_pid": 4711,
        "local_port": 51234,
    }
    return _record(HeldConnection, known, changes)  # type: ignore[no-any-return]  # it makes any record


def leaking(number: int = 0, owner: str = "POST /chat/stream", age: float = 725.0) -> HeldConnection:
    """Make a holder that is overdue, idle in transaction."""
    return held(
        owner,
        age - number,
        function="shop.auth:get_current_user",
        filename="/srv/shop/auth.py",
        lineno=88,
        task_name=f"Task-{100 + number}",
        in_transaction=True,
        overdue="idle_in_transaction",
        backend_pid=5000 + number,
        local_port=40000 + number,
        stack=(
            "uvicorn.protocols.http:run_asgi (h11_impl.py:410)",
            "starlette.responses:stream_response (responses.py:257)",
            "shop.chat:tokens (chat.py:31)",
            "asyncio.queues:get (queues.py:158)",
        ),
    )


def history(samples: int = 60, **changes: Any) -> tuple[PoolSample, ...]:
    """Make five minutes of a pool that fills up, queues and then times out."""
    made = []
    timeouts, waited, checkouts = 0, 0.0, 12_000
    for number in range(samples):
        done = number / max(1, samples - 1)
        used = min(10, round(2 + 12 * done))
        waiting = max(0, round(12 * (done - 0.6)))
        checkouts += max(0, 12 - used)
        waited += max(0, 12 - used) * 0.004 * (1 + 60 * done**3)
        timeouts += waiting // 3
        values = {
            "unix_time": NOW - 5.0 * (samples - 1 - number),
            "used": used,
            "idle": max(0, 4 - used // 3),
            "pending": waiting,
            "checkouts": checkouts,
            "timeouts": timeouts,
            "wait_seconds_sum": waited,
        }
        made.append(_record(PoolSample, values, changes))
    return tuple(made)


def leak_report(event: str = "suspected", ago: float = 65.0, **changes: Any) -> LeakReport:
    values = {
        "event": event,
        "kind": None if event == "collected" else "idle_in_transaction",
        "unix_time": NOW - ago,
        "held": leaking(),
    }
    return _record(LeakReport, values, changes)  # type: ignore[no-any-return]  # it makes any record


def timeout_report(ago: float = 12.0, **changes: Any) -> TimeoutReport:
    values = {
        "pool": "orders",
        "unix_time": NOW - ago,
        "timeout_seconds": 30.0,
        "size": 10,
        "max": 15,
        "uses": 15,
        "overflow": 5,
        "pending": 6,
        "held": (*(leaking(number) for number in range(12)), *(held() for _ in range(3))),
    }
    return _record(TimeoutReport, values, changes)  # type: ignore[no-any-return]  # it makes any record


def status(*holders: HeldConnection, reports: Any = (), samples: Any = (), **changes: Any) -> PoolStatus:
    """Make the status of a pool with these holders; `changes` replace fields of its snapshot."""
    shares: dict[str, int] = {}
    for one in holders:
        shares[one.owner] = shares.get(one.owner, 0) + 1
    known = {"used": len(holders), "uses": len(holders), "owner_connections": shares}
    return PoolStatus(
        snapshot=snapshot(**{**known, **changes}),
        held=holders,
        reports=tuple(reports),
        history=tuple(samples),
    )


def full_of_leaks() -> PoolStatus:
    """Make a pool that 12 leaks and 3 honest requests fill."""
    return status(
        *(leaking(number) for number in range(12)),
        held("GET /orders/{id}", 0.21, busy=True, in_transaction=True, quiet_seconds=0.0),
        held("GET /orders/{id}", 0.04),
        held("job:nightly-report", 0.003, exempt=True, trace_id=None, task_name=None, statement="SELECT 1"),
        reports=(
            timeout_report(),
            timeout_report(41.0),
            leak_report(),
            leak_report("recovered", 300.0),
            leak_report("collected", 4000.0),
        ),
        samples=history(),
        idle=0,
        pending_requests=pending(queued=6),
        oldest_pending_seconds=18.4,
        timeouts=31,
        leaks_suspected={"idle_in_transaction": 14},
        leaks_collected=1,
        owner_use_seconds={
            "POST /chat/stream": 8640.0,
            "GET /orders/{id}": 512.5,
            "job:nightly-report": 1400.0,
        },
        owner_leaks={"POST /chat/stream": 14, "GET /orders/{id}": 0},
    )


def busy() -> PoolStatus:
    """Make a pool with one honest request in it."""
    return status(
        held(busy=True),
        name="reports",
        samples=history(40, pending=0, timeouts=0),
        size=5,
        max=10,
        owner_use_seconds={"GET /orders/{id}": 51.0},
    )
