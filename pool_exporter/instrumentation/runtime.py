"""Keep what this process has instrumented, and look at it now and then, also over a fork."""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING

from pool_exporter.catalogue import resolve_buckets
from pool_exporter.exporters.multiprocess.publisher import Publisher
from pool_exporter.instrumentation.background import BackgroundThread
from pool_exporter.instrumentation.destinations import DestinationOptions, Destinations
from pool_exporter.instrumentation.instrumentation import Instrumentation
from pool_exporter.instrumentation.options import Options

if TYPE_CHECKING:
    from pool_exporter.exporters.opentelemetry.provider import ProviderExporter
    from pool_exporter.exporters.opentelemetry.providers import ProviderExporters

logger = logging.getLogger("pool_exporter")

SAMPLE_SECONDS = 5.0
"""The time between two points of the history that a status page shows."""


class Runtime:
    """What this process has instrumented. Prometheus's default registry is global, and so is this."""

    def __init__(self) -> None:
        self.exports = Destinations()
        self.lock = threading.RLock()  # held while an engine is instrumented, or no longer
        self.watcher = BackgroundThread(self.check)
        self.sharing = Publisher(self.exports, self.warn_once)
        self._telemetries: ProviderExporters | None = None  # made when the first meter provider is given
        self.sampling = False  # whether somebody looks at the pools' history
        self._sampled_at = self._look_at = float("-inf")
        self._said: set[str] = set()
        self._soon = False  # whether there is something to look at before its time
        if hasattr(os, "register_at_fork"):
            # A process that has a second thread when it forks is warned of it, and rightly.
            os.register_at_fork(
                before=self.before_fork,
                after_in_parent=self.after_fork_in_parent,
                after_in_child=self.after_fork,
            )

    def pools(self) -> list[Instrumentation]:
        """Return every pool that is instrumented and still there; never raises."""
        found: list[Instrumentation] = []
        for export in self.exports.all():
            try:
                found += export.pools()
            except Exception as error:
                export.faults.report("pools", error)
        return found

    def telemetry(self, options: Options, *, asked: bool = True) -> ProviderExporter | None:
        """Return what tells the meter provider of these options, None if there is none.

        Raises `ValueError` where it cannot be as they say, unless that or what is in the way was not `asked` for.
        """
        if options.meter_provider is None:
            return None
        if self._telemetries is None:  # not every process pays for the import
            from pool_exporter.exporters.opentelemetry.providers import ProviderExporters  # noqa: PLC0415

            self._telemetries = ProviderExporters(self.exports, self.warn_once)
        found: ProviderExporter = self._telemetries.of(
            options.meter_provider,
            DestinationOptions(options.detail, options.buckets),
            options.buckets or resolve_buckets(None),
            asked=asked,
        )
        found.check(options.registry)
        return found

    def watch(self) -> None:
        """See to it that the pools are checked, if there are any."""
        if self.pools():
            self.look_soon()

    def look_soon(self) -> None:
        """Look at all pools as soon as may be, and then when it is time."""
        self._soon = True
        self.watcher.start()

    def soon(self) -> None:
        """Do the same where the thread is there already; waits for nothing."""
        self._soon = True
        self.watcher.wake()

    def check(self) -> float | None:
        """Do what is due now; return the seconds until the next time, None where there is none."""
        now = time.monotonic()
        if self._soon or now >= self._look_at:
            self._soon = False
            pause = self._look(now)
            self._look_at = float("-inf") if pause is None else now + pause
        pauses = [] if self._look_at == float("-inf") else [self._look_at - now]
        pauses += [
            pause for pause in (self.sharing.publish(gently=True), self._relieve()) if pause is not None
        ]
        return max(0.0, min(pauses)) if pauses else None

    def _relieve(self) -> float | None:
        return None if self._telemetries is None else self._telemetries.relieve()

    def _look(self, now: float) -> float | None:
        """Check every pool; return the seconds until the next look, None where there is no pool."""
        pauses = []
        sample = self.sampling and now - self._sampled_at >= SAMPLE_SECONDS
        if sample:
            self._sampled_at = now
        for pool in self.pools():
            try:
                pauses.append(pool._check())
                if sample:
                    pool._sample()
            except Exception as error:
                pauses.append(SAMPLE_SECONDS)  # there is a pool, so there is a next time
                pool._ledger.faults.report("check", error)
        return min(pauses, default=None)

    def warn_once(self, message: str, *arguments: object) -> None:
        """Log a warning unless the same was logged before."""
        text = message % arguments
        if text not in self._said:
            self._said.add(text)
            logger.warning("%s", text)

    def before_fork(self) -> None:
        """Let nothing of ours be in the middle of something when the process forks."""
        self.watcher.stop()
        self.sharing.before_fork()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self.sharing.after_fork_in_parent()
        self.watch()

    def after_fork(self) -> None:
        """Let every pool start again in a forked child, from the connections it inherited."""
        self.lock = threading.RLock()
        self.watcher.after_fork()
        self.sharing.after_fork_in_child()
        for export in self.exports.all():
            export.names.after_fork()
            export.faults.after_fork()
            for pool in export.names.holders():
                pool._after_fork()
        self.watch()


RUNTIME = Runtime()
