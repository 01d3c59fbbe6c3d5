"""Say what is served for a registry: its own collectors, or what all workers have published."""

from __future__ import annotations

from prometheus_client.registry import REGISTRY, CollectorRegistry

from pool_exporter.exporters.multiprocess.merge import workers_registry
from pool_exporter.exporters.multiprocess.value_files import directory


def registry_to_serve(registry: object) -> tuple[CollectorRegistry, bool]:
    """Return the registry to collect from, and whether that merges the files of several processes.

    So it is for the default registry in prometheus_client's multi-process mode: what is in it is this
    process's share only. Another registry is served as it is. Raises TypeError if it is none.
    """
    asked = served_registry(registry)
    path = directory()
    if asked is REGISTRY and path is not None:
        return workers_registry(path), True
    return asked, False


def served_registry(registry: object) -> CollectorRegistry:
    """Return a registry to serve."""
    if isinstance(registry, CollectorRegistry):
        return registry
    raise TypeError(
        f"registry={registry!r}: expected a prometheus_client CollectorRegistry; leave it out to serve "
        "the default one, in which instrument(engine) puts its pools"
    )
