"""Read what all processes have published as one: prometheus_client's merging, that a bad file cannot stop."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric as Family
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from pool_exporter.exporters.multiprocess import liveness, value_files

logger = logging.getLogger("pool_exporter")


def workers_registry(path: str) -> CollectorRegistry:
    """Return a registry with the metrics of all processes that publish to a directory, and no others."""
    registry = CollectorRegistry(auto_describe=False, support_collectors_without_names=True)
    registry.register(WorkersCollector(path))
    return registry


class WorkersCollector(Collector):
    """Merge the files of a multi-process directory, the application's own metrics included.

    What this process has to publish is published before; gauges of processes that died are left out.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._bad: frozenset[str] = frozenset()  # in the last scrape
        self._said: set[str] = set()

    def collect(self) -> Iterable[Family]:
        """Return one family for each metric of any process."""
        for publisher in tuple(value_files.PUBLISHERS):
            publisher.publish()
        try:
            liveness.remove_dead(self._path)
        except Exception as error:  # such as a file that another user owns
            logger.debug("cannot look for dead processes in %s: %s", self._path, error)
        files = glob.glob(os.path.join(glob.escape(self._path), "*.db"))
        try:
            return self._merged(files)
        except Exception:  # somebody else's file: any error of a decoder
            return self._merged(self._readable(files))

    def _merged(self, files: list[str]) -> list[Family]:
        return list(MultiProcessCollector.merge(files))  # type: ignore[no-untyped-call]  # untyped upstream

    def _readable(self, files: list[str]) -> list[str]:
        readable = [file for file in files if _is_readable(file)]
        bad = frozenset(files) - frozenset(readable)
        for file in bad - self._bad:
            logger.error(
                "%s is damaged, so its numbers are left out; delete it when its process is gone", file
            )
        self._bad = bad
        return readable


def _is_readable(file: str) -> bool:
    try:
        MultiProcessCollector.merge([file])  # type: ignore[no-untyped-call]  # untyped upstream
    except Exception:
        return False
    return True
