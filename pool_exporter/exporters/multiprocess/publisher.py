"""Share this process's pools with the other workers, in prometheus_client's multi-process mode."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from pool_exporter.catalogue import Detail
from pool_exporter.exporters.multiprocess import liveness
from pool_exporter.exporters.multiprocess.value_files import (
    FULL_SECONDS,
    PUBLISH_SECONDS,
    PublishedPool,
    ValueFiles,
    directory,
)
from pool_exporter.instrumentation.destinations import Destinations
from pool_exporter.instrumentation.instrumentation import Instrumentation
from pool_exporter.ledger.ledger import Ledger
from pool_exporter.records import PoolSnapshot, PoolState
from pool_exporter.support.environment import DIRECTORY_VARIABLE
from pool_exporter.support.faults import Faults
from pool_exporter.support.workers import several_workers

logger = logging.getLogger("pool_exporter")


class _Known(NamedTuple):
    """A pool that was published: its ledger is kept for one publication more than the pool."""

    pool: weakref.ref[Instrumentation]
    ledger: Ledger
    name: str
    detail: Detail


class Publisher:
    """Publish every pool of this process that is exported; does nothing outside of multi-process mode."""

    def __init__(self, exports: Destinations, warn_once: Callable[..., None]) -> None:
        self._exports = exports
        self._warn_once = warn_once
        self._publisher: ValueFiles | None = None
        self._known: dict[int, _Known] = {}  # by token
        self._faults = Faults()
        self._beat_at = float("-inf")
        self._marks_at_fork: dict[int, tuple[int, ...] | None] = {}  # by token
        self._ending = False

    def begin(self) -> None:
        """See whether there is anybody to share with; say what is wrong with the directory, if anything is."""
        if self._publisher is not None:
            return
        path = directory()
        if path is not None:
            self._check(path)
            self._publisher = ValueFiles(self._subjects, self._failed)
            atexit.register(self._end)
            self._end_with_multiprocessing()
        elif os.environ.get(DIRECTORY_VARIABLE):
            self._warn_once(
                "%s was set after prometheus_client was imported, which therefore does not heed it: pool metrics "
                "cover this process only; set the variable before the process starts",
                DIRECTORY_VARIABLE,
            )
        elif several_workers():
            self._warn_once(
                "this is one of several workers: a scrape sees the pools of the one that answers it, and their series "
                "have a process label; set %s to an empty directory before the server starts to see all of them",
                DIRECTORY_VARIABLE,
            )

    def _end_with_multiprocessing(self) -> None:
        """See to it that a process of multiprocessing publishes a last time: it leaves without `atexit`.

        One that is forked forgets what is to be done at its end, and then what is registered is called.
        """
        util: Any = sys.modules.get("multiprocessing.util")
        if util is not None:
            util.Finalize(None, self._end, exitpriority=0)
            util.register_after_fork(self, Publisher._end_with_multiprocessing)

    def _check(self, path: str) -> None:
        if not os.path.isdir(path):
            problem = "is not a directory; create it, empty, before the server starts"
        elif not os.access(path, os.W_OK | os.X_OK):
            problem = "cannot be written to; give this process's user the right to"
        else:
            return
        logger.error(
            "%s=%r %s: until then the pools are not in the metrics", DIRECTORY_VARIABLE, path, problem
        )

    def publish(self, *, gently: bool = False) -> float | None:
        """Publish; return the seconds until the next time, None where there is nothing to publish."""
        if self._publisher is None:
            return None
        self._publisher.publish(gently=gently)
        self._beat()
        return PUBLISH_SECONDS if self._known else None

    def _beat(self) -> None:
        path, now = directory(), time.monotonic()
        if path is None or now - self._beat_at < FULL_SECONDS:
            return
        self._beat_at = now
        try:
            warning = liveness.write_heartbeat(path)
            # An endpoint made of prometheus_client's own collector does not look for dead processes.
            liveness.remove_dead(path)
        except Exception as error:
            self._failed(error)
            return
        if warning is not None:
            self._warn_once("%s=%s", DIRECTORY_VARIABLE, warning)

    def _failed(self, error: BaseException) -> None:
        self._faults.report("exporters.multiprocess", error)

    def _subjects(self) -> Iterator[PublishedPool]:
        seen = set()
        for export in self._exports.served():
            for pool in export.pools():
                token, ledger = pool._token, pool._ledger
                seen.add(token)
                self._known[token] = _Known(weakref.ref(pool), ledger, pool.name, export.detail)
                mark = ledger.mark()
                # What has not used a pool since it forked is a server's parent, whose workers use theirs.
                parent = mark is not None and mark == self._marks_at_fork.get(token) and not ledger.has_open()
                yield PublishedPool(token, mark, self._ending or parent, pool.snapshot, detail=export.detail)
                del pool  # so that what the application drops goes, also while the others are published
        for token in self._known.keys() - seen:
            known = self._known.pop(token)
            yield PublishedPool(token, None, True, _last_snapshot(known), last=True, detail=known.detail)

    def _end(self) -> None:
        """Publish a last time, before the process ends: what it has counted stays, what it holds is nothing."""
        self.publish()  # what has only just begun has not been published at all
        self._ending = True
        self.publish()

    def before_fork(self) -> None:
        """Let nothing be in the middle of being written when the process forks."""
        if self._publisher is not None:
            self._publisher.before_fork()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        if self._publisher is None:
            return
        self._publisher.after_fork_in_parent()
        self._marks_at_fork = {
            pool._token: pool._ledger.mark()
            for export in self._exports.served()
            for pool in export.names.holders()
        }

    def after_fork_in_child(self) -> None:
        """Begin with nothing."""
        self._known.clear()
        self._faults.after_fork()
        self._beat_at = float("-inf")
        self._marks_at_fork.clear()
        self._ending = False
        if self._publisher is not None:
            self._publisher.after_fork_in_child()
            self._end_with_multiprocessing()


def _last_snapshot(known: _Known) -> Callable[[], PoolSnapshot]:
    pool = known.pool()
    if pool is not None:
        return pool.snapshot  # of one that is no longer instrumented, what was known at its end
    return lambda: known.ledger.snapshot(PoolState.unknown(known.name))
