"""What is published for other processes to read: every series, merged as it should be, never twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, values
from prometheus_client.multiprocess import mark_process_dead

from pool_exporter import HistogramSnapshot, PoolSnapshot
from pool_exporter.catalogue import Detail
from pool_exporter.exporters.multiprocess import liveness
from pool_exporter.exporters.multiprocess.value_files import (
    FULL_SECONDS,
    NoRoom,
    PublishedPool,
    ValueFiles,
    directory,
)
from pool_exporter.exporters.prometheus import PoolCollector
from tests.exporters.multiprocess.conftest import Workers
from tests.exporters.snapshots import snapshot


class Process:
    """One process with pools whose snapshots a test sets."""

    def __init__(self, *pools: PoolSnapshot, detail: Detail = "full") -> None:
        self.pools: dict[int, PoolSnapshot] = dict(enumerate(pools))
        self.over: set[int] = set()
        self.marks: dict[int, object] = {}
        self.now = 0.0
        self.taken = 0
        self.errors: list[BaseException] = []
        self.detail: Detail = detail
        self.publisher = ValueFiles(self.subjects, self.errors.append, clock=lambda: self.now)

    def subjects(self) -> Iterator[PublishedPool]:
        for token in self.pools:
            over = token in self.over
            yield PublishedPool(
                token, self.marks.get(token), over, self.taking(token), last=over, detail=self.detail
            )

    def taking(self, token: int) -> Callable[[], PoolSnapshot]:
        def take() -> PoolSnapshot:
            self.taken += 1
            return self.pools[token]

        return take

    def publish(self) -> None:
        self.publisher.publish()
        assert self.errors == []


def orders(**changes: Any) -> PoolSnapshot:
    return snapshot("orders", **changes)


def collected(*pools: PoolSnapshot) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return what the collector of a single process makes of snapshots, by sample."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in PoolCollector(lambda: pools).collect()
        for sample in family.samples
    }


def test_one_process_has_every_series_of_the_collector(workers: Workers) -> None:
    """Merged, one process's files say exactly what it says itself; an info metric is a gauge of 1."""
    Process(orders()).publish()
    assert workers.merged() == collected(orders())


def test_unknown_things_are_left_out(workers: Workers) -> None:
    """What a snapshot does not know has no series here either."""
    pool = orders(max=None, size=None, acquires=None, wait_seconds=None, recycle_seconds=None)
    Process(pool).publish()
    assert workers.merged() == collected(pool)


def test_two_processes_are_one(workers: Workers) -> None:
    """Counts, counters and histograms add up; of ages the largest counts; processes are counted."""
    Process(orders(oldest_use_seconds=3.0)).publish()
    workers.become(1002)
    Process(orders(used=1, checkouts=20, oldest_use_seconds=7.0)).publish()
    assert workers.value("connections", state="used") == 6 + 1
    assert workers.value("connections_max") == 15 + 15
    assert workers.value("processes") == 2
    assert workers.value("checkouts_total") == 980 + 20
    assert workers.value("oldest_use_seconds") == 7.0
    one = orders().wait_seconds
    assert one is not None
    assert workers.value("wait_seconds_count") == 2 * one.count
    assert workers.value("wait_seconds_bucket", le="0.005") == 2 * (1 + 2)
    assert workers.value("wait_seconds_bucket", le="+Inf") == 2 * one.count


def test_a_dead_process_leaves_its_counters_and_not_its_gauges(workers: Workers) -> None:
    """prometheus_client's `mark_process_dead` works as for any metric."""

    Process(orders()).publish()
    workers.become(1002)
    Process(orders(used=1)).publish()
    mark_process_dead(1001, str(workers.path))  # type: ignore[no-untyped-call]  # untyped upstream
    assert workers.value("connections", state="used") == 1
    assert workers.value("processes") == 1
    assert workers.value("checkouts_total") == 980 + 980


def test_a_successor_of_the_same_name_goes_on_with_the_counters(workers: Workers) -> None:
    """A pool that takes the name of one that is over adds to its counters; its gauges are its own."""
    process = Process(orders(used=6, checkouts=100, oldest_use_seconds=9.0))
    process.publish()
    process.over.add(0)
    process.pools[1] = orders(used=2, checkouts=5, oldest_use_seconds=1.0)
    process.publish()
    assert workers.value("connections", state="used") == 2
    assert workers.value("oldest_use_seconds") == 1.0
    assert workers.value("checkouts_total") == 105
    assert workers.value("processes") == 1


def test_a_pool_that_is_over_is_published_a_last_time(workers: Workers) -> None:
    """What came after the last publication is not lost, and what it held is nothing."""
    process = Process(orders(checkouts=100))
    process.publish()
    process.pools[0] = orders(checkouts=103)
    process.over.add(0)
    process.publish()
    process.publish()
    assert workers.value("checkouts_total") == 103
    assert workers.value("connections", state="used") == 0
    assert workers.value("processes") == 0


def test_two_pools_of_one_name_add_up(workers: Workers) -> None:
    """Registries have names of their own, the files do not."""
    Process(orders(checkouts=1), orders(checkouts=2)).publish()
    assert workers.value("checkouts_total") == 3
    assert workers.value("processes") == 2


def test_a_label_value_that_is_gone_goes_to_zero(workers: Workers) -> None:
    """An owner's gauge does not keep the last value that it had when it was there."""
    process = Process(orders(owner_connections={"a": 2, "b": 1}))
    process.publish()
    process.pools[0] = orders(owner_connections={"b": 3})
    process.publish()
    assert workers.value("owner_connections", owner="a") == 0
    assert workers.value("owner_connections", owner="b") == 3


def test_a_number_of_a_dead_process_is_gone_on_with(workers: Workers) -> None:
    """A process with the number of one that died adds to the counters in that one's files."""
    Process(orders(checkouts=100)).publish()
    Process(orders(checkouts=7, used=2)).publish()  # a new process, that knows nothing of the first
    assert workers.value("checkouts_total") == 107
    assert workers.value("connections", state="used") == 2


def test_workers_may_differ_in_detail_buckets_and_errors(workers: Workers) -> None:
    """Each label set is merged with its like."""
    Process(orders(disconnects={"asyncpg.A": 1}), detail="basic").publish()
    workers.become(1002)
    one = orders().wait_seconds
    assert one is not None
    pool = orders(disconnects={"asyncpg.B": 2}, wait_seconds=HistogramSnapshot((0.002, 1.0), (1, 1, 1), 3.5))
    Process(pool).publish()
    assert workers.value("disconnects_total", error="asyncpg.B") == 2
    assert workers.value("wait_seconds_bucket", le="0.002") is not None
    assert workers.value("wait_seconds_count") == one.count + 3
    assert workers.value("statements_total") == pool.statements  # of the one with all detail


def test_a_pool_at_rest_is_left_alone(workers: Workers) -> None:
    """Where nothing has happened, no snapshot is taken; now and then, one is all the same."""
    process = Process(orders())
    process.marks[0] = (1, 2)
    process.publish()
    process.publish()
    assert process.taken == 1
    process.marks[0] = (1, 3)
    process.publish()
    assert process.taken == 2
    process.now += FULL_SECONDS
    process.publish()
    assert process.taken == 3
    process.marks[0] = None  # something is going on
    process.publish()
    process.publish()
    assert process.taken == 5


def test_hostile_labels_are_carried(workers: Workers) -> None:
    """Quotes, newlines and lone surrogates of a name or an owner come out as in a single process."""
    pool = snapshot('or"ders\n\\ü\ud800', owner_connections={'a"\n': 1}, owner_leaks={}, owner_use_seconds={})
    Process(pool).publish()
    assert workers.merged() == collected(pool)


def test_without_the_directory_there_is_no_multi_process_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that prometheus_client did not see when it was imported is none."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/tmp/set-too-late")
    assert values.ValueClass._multiprocess is False
    assert directory() is None


def test_a_failing_pool_costs_itself_only(workers: Workers) -> None:
    """Another pool's numbers are written, and the failure is reported."""
    process = Process(orders(), snapshot("reports"))
    failure = RuntimeError("no snapshot")

    def taking(token: int) -> Callable[[], PoolSnapshot]:
        def take() -> PoolSnapshot:
            if token == 0:
                raise failure
            return process.pools[token]

        return take

    process.taking = taking  # type: ignore[method-assign]  # as the test's pools take snapshots
    process.publisher.publish()
    assert process.errors == [failure]
    assert workers.value("checkouts_total", pool="reports") == 980


def test_a_full_disk_kills_nobody(
    workers: Workers, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values that are there go on being written; a new one waits until there is room, and is then complete."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(small_disk))
    workers.path = small_disk
    process = Process(orders(owner_connections={"a": 1}))
    process.publish()
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space left"):
        filler.write_bytes(b"x" * 2_000_000)
    process.pools[0] = orders(checkouts=990, owner_connections={"a": 2, "b": 1})
    process.publisher.publish()
    (error,) = process.errors
    assert isinstance(error, NoRoom)
    assert "make room" in str(error)
    assert workers.value("checkouts_total") == 990
    assert workers.value("owner_connections", owner="b") is None
    filler.unlink()
    process.errors.clear()
    process.publish()
    assert workers.value("owner_connections", owner="a") == 2
    assert workers.value("owner_connections", owner="b") == 1


def test_a_clock_that_jumps_changes_nothing(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the time of day is set to, each publication is whole, and nothing goes back."""
    process = Process(orders(checkouts=1))
    for number, now in enumerate((2e9, 0.0, 4e9, 1e9), start=1):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        process.pools[0] = orders(checkouts=number)
        process.publish()
        assert liveness.write_heartbeat(str(workers.path)) is None
        assert workers.value("checkouts_total") == number
        assert liveness.remove_dead(str(workers.path)) == []


def test_the_registry_of_the_collector_needs_no_directory() -> None:
    """Outside of the mode nothing is published and nothing is asked for."""
    registry = CollectorRegistry()
    registry.register(PoolCollector(lambda: [orders()]))
    assert registry.get_sample_value("sqlalchemy_pool_processes", {"pool": "orders"}) == 1
