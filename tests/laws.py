"""Assert the laws of counting on snapshots: what must hold at every moment, in every pool."""

from __future__ import annotations

from pool_exporter import PoolSnapshot

ROUNDING_SECONDS = 1e-6


def assert_laws(now: PoolSnapshot, before: PoolSnapshot | None = None) -> None:
    """Assert laws 1 to 4 in one snapshot, and against an earlier one that nothing goes back."""
    assert now.checkouts == now.checkins + now.detaches + now.leaks_collected + now.uses, "law 1"
    assert now.connects == sum(now.closes.values()) + now.detaches + now.open, "law 2"
    if now.acquires is not None:
        assert now.wait_seconds is not None
        followed = now.checkouts - now.adopted
        ended = (now.timeouts or 0) + (now.cancelled_acquires or 0) + (now.failed_acquires or 0)
        assert now.acquires == followed + ended + (now.pending or 0), "law 3"
        assert now.wait_seconds.count == followed, "law 3, waits"
    assert now.use_seconds.count == now.checkins + now.detaches, "law 4"
    # The uses that ended otherwise than by the collector are no more than all of them together.
    assert now.use_seconds.sum <= now.occupancy_seconds + ROUNDING_SECONDS, "law 4, occupancy"
    if not now.uses and not now.leaks_collected:
        assert abs(now.use_seconds.sum - now.occupancy_seconds) <= ROUNDING_SECONDS, "law 4, occupancy"
    assert min(now.used, now.idle, now.uses - now.used) >= 0
    assert now.telemetry_errors == 0
    if before is not None:
        _assert_onward(now, before)


def _assert_onward(now: PoolSnapshot, before: PoolSnapshot) -> None:
    for name in (
        "checkouts",
        "checkins",
        "detaches",
        "leaks_collected",
        "connects",
        "adopted",
        "occupancy_seconds",
        "acquires",
        "timeouts",
        "cancelled_acquires",
        "failed_acquires",
        "waits",
        "queue_seconds",
        "stranded_waits",
        "statements",
        "pre_ping_failures",
        "reset_failures",
    ):
        if getattr(before, name) is not None:
            assert getattr(now, name) >= getattr(before, name), f"{name} went back"
    for reason, count in before.closes.items():
        assert now.closes[reason] >= count, f"closes of {reason} went back"
