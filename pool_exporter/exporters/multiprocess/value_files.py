"""Publish pool snapshots to prometheus_client's own multi-process files.

With `PROMETHEUS_MULTIPROC_DIR` set before prometheus_client is imported, each value of a metric is
a number in a file of its process, and a `MultiProcessCollector` in whichever process is scraped
adds the files up. Here the values are written through prometheus_client's value class, now and
then and before a scrape, never when a connection is acquired.

What a process has published stays true when it dies: counters and histograms remain in the files,
and the gauges of dead processes are left out by `mark_process_dead`.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from typing import Any, NamedTuple

from prometheus_client import values

from pool_exporter.catalogue import Detail, Metric, prometheus_metrics
from pool_exporter.exporters.families import as_text, bucket_labels
from pool_exporter.records import HistogramSnapshot, PoolSnapshot
from pool_exporter.support.environment import DIRECTORY_VARIABLE

PUBLISH_SECONDS = 0.5
"""The time between two publications: a process that is killed loses what came after the last one."""


FULL_SECONDS = 5.0
"""The time after which a pool at rest is looked at again all the same: its configuration may have changed."""


ROOM_BYTES = 1 << 20
"""Free space without which no new value is made: a full file system kills who writes to a mapped file."""


PUBLISHERS: weakref.WeakSet[ValueFiles] = weakref.WeakSet()
"""Those of this process, for whoever is about to read the files."""


def directory() -> str | None:
    """Return the directory of the files where prometheus_client is in its multi-process mode, else None.

    It decides that when it is imported; a directory that is set later is not heeded.
    """
    path = os.environ.get(DIRECTORY_VARIABLE) or os.environ.get(DIRECTORY_VARIABLE.lower())
    return path if path and getattr(values.ValueClass, "_multiprocess", False) else None


class NoRoom(OSError):
    """The file system of the directory is nearly full."""


class PublishedPool(NamedTuple):
    """One pool to publish. `token` tells pools apart, also those that have one name one after the other.

    `mark` is equal to the last one where nothing has happened since; None where something is going
    on. `over` says that the pool is not in use here: its gauges go to 0, its counters stay. `last` says that
    nothing more will come of it. `detail` says which metrics.
    """

    token: int
    mark: object
    over: bool
    take: Callable[[], PoolSnapshot]
    last: bool = False
    detail: Detail = "full"


Key = tuple[str, tuple[str, ...]]
"""The name of a sample and its label values."""


class _Value:
    """One number in a file: what the pools of a name have contributed to it, added up or the most of it."""

    __slots__ = ("_parts", "_total", "_value")

    def __init__(self, value: Any, *, most: bool, kept: bool) -> None:
        self._value = value
        self._parts: dict[int, float] | None = {} if most else None
        # A process that has the number of a dead one goes on with that one's counters.
        self._total: float = value.get() if kept else 0

    def contribute(self, token: int, before: float, now: float) -> None:
        if self._parts is None:
            self._total += now - before
        else:
            self._parts[token] = now
            self._total = max(self._parts.values())
        self._value.set(self._total)

    def forget(self, token: int) -> None:
        if self._parts is not None:
            self._parts.pop(token, None)


class _Pool:
    """What was published last of one pool."""

    __slots__ = ("fields", "looked_at", "mark", "samples")

    def __init__(self) -> None:
        self.mark: object = None
        self.looked_at = float("-inf")
        self.fields: dict[str, object] = {}  # by metric, as it was in the snapshot
        self.samples: dict[str, dict[Key, float]] = {}  # by metric


class ValueFiles:
    """Write what has changed of each pool. `subjects` is called each time and gives the pools.

    Safe in any thread. `fault` gets what goes wrong, which costs only the pool concerned.
    """

    def __init__(
        self,
        subjects: Callable[[], Iterable[PublishedPool]],
        fault: Callable[[BaseException], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._subjects = subjects
        self._fault = fault
        self._clock = clock
        self._lock = threading.Lock()  # guards what follows, and that nothing is written over a fork
        self._held_over_fork = False
        self._begin()
        PUBLISHERS.add(self)

    def _begin(self) -> None:
        self._pools: dict[int, _Pool] = {}
        self._values: dict[Key, _Value] = {}

    def publish(self, *, gently: bool = False) -> None:
        """Bring the files up to date; `gently` lets other threads run between two pools. Never raises."""
        with self._lock:
            try:
                for subject in self._subjects():
                    try:
                        self._publish(subject)
                    except Exception as error:
                        self._fault(error)
                    if gently:
                        time.sleep(0)
            except Exception as error:
                self._fault(error)

    def before_fork(self) -> None:
        """Wait until nothing is being written; a second at most."""
        self._held_over_fork = self._lock.acquire(timeout=1.0)

    def after_fork_in_parent(self) -> None:
        """Go on."""
        if self._held_over_fork:
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Begin with nothing, in files of the child's own."""
        self._lock = threading.Lock()
        self._begin()

    def _publish(self, subject: PublishedPool) -> None:
        now = self._clock()
        pool = self._pools.get(subject.token)
        if subject.over:
            if pool is None:
                return
        elif pool is None:
            pool = self._pools[subject.token] = _Pool()
        elif subject.mark == pool.mark is not None and now - pool.looked_at < FULL_SECONDS:
            return
        failure = self._write_changes(subject, pool)
        pool.mark, pool.looked_at = (subject.mark if failure is None else None), now
        if subject.last:
            del self._pools[subject.token]
            for samples in pool.samples.values():
                for key in samples:
                    self._values[key].forget(subject.token)
        if failure is not None:
            raise failure

    def _write_changes(self, subject: PublishedPool, pool: _Pool) -> Exception | None:
        """Write what differs from the last time; return what failed: one value must not keep back the others."""
        snapshot = subject.take()
        failure: Exception | None = None
        for metric in prometheus_metrics(subject.detail):
            given = attrgetter(metric.field)(snapshot)
            if subject.over and metric.kind in ("gauge", "info"):
                given = None
            if metric.name not in pool.fields or given != pool.fields[metric.name]:
                try:
                    self._write(subject.token, metric, snapshot, given, pool)
                except Exception as error:
                    failure = failure or error
                else:
                    pool.fields[metric.name] = given
        return failure

    def _write(self, token: int, metric: Metric, snapshot: PoolSnapshot, given: object, pool: _Pool) -> None:
        before = pool.samples.get(metric.name, {})
        after = dict(_samples(metric, snapshot, given))
        if metric.kind in ("gauge", "info"):
            after = {**dict.fromkeys(before, 0.0), **after}
        for key, number in after.items():
            if key not in before or number != before[key]:
                value = self._values.get(key) or self._new_value(metric, key)
                value.contribute(token, before.get(key, 0.0), number)
                before[key] = number  # at once, so that what fails halfway is not counted twice
                pool.samples[metric.name] = before

    def _new_value(self, metric: Metric, key: Key) -> _Value:
        _check_room()
        name, label_values = key
        labels = ["pool", *metric.labels]
        if metric.kind == "histogram" and name.endswith("_bucket"):
            labels.append("le")
        gauge = metric.kind in ("gauge", "info")
        made = values.ValueClass(
            "gauge" if gauge else metric.kind,
            metric.prometheus_name.removesuffix("_total"),
            name,
            labels[: len(label_values)],
            label_values,
            metric.help,
            multiprocess_mode=metric.merging if gauge else "",
        )
        most = gauge and metric.merging == "livemax"
        value = self._values[key] = _Value(made, most=most, kept=not gauge)
        return value


def _check_room() -> None:
    path = directory()
    if path is None or not hasattr(os, "statvfs"):
        return
    found = os.statvfs(path)
    if found.f_bavail * found.f_frsize < ROOM_BYTES:
        raise NoRoom(
            f"{DIRECTORY_VARIABLE}={path!r}: less than {ROOM_BYTES >> 20} MiB free on its file system; "
            "make room, and what is missing will be published"
        )


def _samples(metric: Metric, snapshot: PoolSnapshot, given: object) -> Iterator[tuple[Key, float]]:
    """Yield the samples of one metric as the files have them: buckets each on its own, no `_count`."""
    name, pool = metric.prometheus_name, as_text(snapshot.name)
    if given is None:
        return
    if isinstance(given, HistogramSnapshot):
        for le, number in zip(bucket_labels(given.bounds), given.counts, strict=True):
            yield (name + "_bucket", (pool, le)), number
        yield (name + "_sum", (pool,)), given.sum
    elif metric.kind == "info":
        yield (name, (pool, *(as_text(snapshot.info.get(label, "")) for label in metric.labels))), 1
    elif metric.labels:
        counts: Any = given
        for label in metric.values or counts:
            if label in counts:
                yield (name, (pool, as_text(label))), counts[label]
    else:
        value: Any = given
        yield (name, (pool,)), value
