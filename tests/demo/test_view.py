"""The view's numbers, from snapshots whose content is known."""

from __future__ import annotations

import io

import pytest

from pool_exporter.demo.view import LiveView, bar, quantile
from pool_exporter.records import HistogramSnapshot
from tests.exporters.snapshots import snapshot

BOUNDS = (0.1, 0.5, 1.0)


def waits(*counts: int) -> HistogramSnapshot:
    return HistogramSnapshot(BOUNDS, counts, 0.0)


@pytest.mark.parametrize(
    ("rank", "counts", "seconds"),
    [
        (0.5, (10, 0, 0, 0), 0.05),
        (0.5, (0, 10, 0, 0), 0.3),
        (0.99, (99, 1, 0, 0), 0.1),
        (0.75, (50, 50, 0, 0), 0.3),
        (0.99, (0, 0, 0, 5), 1.0),
        (0.99, (0, 0, 0, 0), None),
    ],
)
def test_a_quantile_is_interpolated_as_prometheus_does(
    rank: float, counts: tuple[int, ...], seconds: float | None
) -> None:
    """Within a bucket linearly, above the last bound that bound, without samples nothing."""
    assert quantile(rank, waits(0, 0, 0, 0), waits(*counts)) == pytest.approx(seconds)


def test_only_the_last_seconds_count() -> None:
    """Samples that fell before the first of two snapshots are left out."""
    assert quantile(0.5, waits(0, 100, 0, 0), waits(10, 100, 0, 0)) == pytest.approx(0.05)


def test_the_bar_shows_used_idle_and_what_may_still_be_opened() -> None:
    """Of ten connections five used and two idle fill half and a fifth of the bar."""
    assert bar(snapshot(used=5, idle=2, max=10)) == "[" + "#" * 15 + "-" * 6 + "." * 9 + "]"


def test_a_line_holds_the_snapshot_and_the_window() -> None:
    """Off a terminal a snapshot is a line with its numbers, the wait in milliseconds and the address."""
    output = io.StringIO()
    view = LiveView(output, title="demo", address="http://127.0.0.1:1/metrics")
    pool = {"used": 7, "idle": 1, "size": 5, "max": 10, "timeouts": 4}
    queued = {"queued": 3, "connecting": 1, "pinging": 0}
    view.starting()
    view.begin(snapshot(wait_seconds=waits(0, 9, 0, 0), **pool))

    view.show(snapshot(wait_seconds=waits(10, 9, 0, 0), pending_requests=queued, **pool))

    assert " ".join(output.getvalue().split()) == (
        "used 7 idle 1 overflow 3 of 10 waiting 3 wait p99 99 ms (last 1 s) timeouts 4 "
        "http://127.0.0.1:1/metrics"
    )
