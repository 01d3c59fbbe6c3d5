"""Be a pool that an OpenTelemetry meter provider is told of: its ledger, its attributes, its name there."""

from __future__ import annotations

import weakref
from dataclasses import replace

from pool_exporter.catalogue.vocabularies import POOL_ATTRIBUTE
from pool_exporter.exporters.families import as_text
from pool_exporter.exporters.opentelemetry.attributes import Attributes, pool_attributes
from pool_exporter.instrumentation.instrumentation import Instrumentation
from pool_exporter.ledger.ledger import Ledger
from pool_exporter.records import PoolSnapshot


class ExportedPool:
    """A pool that a provider is told of. Its ledger is kept until all of its samples are recorded."""

    def __init__(self, pool: Instrumentation) -> None:
        self.pool = weakref.ref(pool)
        self.ledger: Ledger = pool._ledger
        self.attributes: Attributes = {}
        self.observed: PoolSnapshot | None = None  # what was told of it last
        self.named = ("", "")  # the pool's name, and the one that it is told of by
        self.most = 0  # samples that its ledger keeps of each histogram

    def told_as(self, snapshot: PoolSnapshot, name: str) -> PoolSnapshot:
        """Return a snapshot by the name that the pool is told of by, and note its attributes.

        A group's members come and go, and with them what they have in common: it is told of by its name alone.
        """
        if name != snapshot.name:
            snapshot = replace(snapshot, name=name)
        pool = self.pool()
        shared = pool is not None and pool._shared
        self.attributes = {POOL_ATTRIBUTE: as_text(name)} if shared else pool_attributes(snapshot)
        return snapshot

    def keep(self, most: int) -> None:
        """Let the ledger keep so many samples."""
        if self.most != most:
            self.ledger.keep_samples(most)
            self.most = most
