"""Render a registry to text in small slices, byte for byte what prometheus_client renders at once.

The text is made by prometheus_client's own encoder, handed one piece of one family at a time;
the header that it repeats for every piece, and the trailer, are cut off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from prometheus_client.core import Metric as Family
from prometheus_client.core import Sample
from prometheus_client.openmetrics.exposition import ALLOWUTF8, UNDERSCORES
from prometheus_client.registry import Collector

from pool_exporter.exporters.prometheus import next_family, pieces

SLICE_COST = 40
"""The most work in one slice of text, in samples made and rendered: about a quarter of a millisecond."""
OPENMETRICS_SLICE_COST = 24
"""The same for OpenMetrics, whose encoder takes nearly twice as long for a sample."""

_FAMILY_COST = 2
_GROUPED_IN_TEXT = ("_created", "_gcount", "_gsum")

Encoder = Callable[[Collector], bytes]


def render(
    collector: Collector,
    encoder: Encoder,
    *,
    openmetrics: bool,
    restricted: bool = False,
    slice_cost: int | None = None,
) -> Iterator[bytes]:
    """Yield the text of all families of a registry in slices, each of bounded work.

    `encoder` is one of prometheus_client's, and `openmetrics` says whether it writes OpenMetrics.
    `restricted` says that `collector` is a registry's `restricted_registry`, which leaves out
    families without samples. Raises what a collector in the registry raises.
    """
    if slice_cost is None:
        slice_cost = OPENMETRICS_SLICE_COST if openmetrics else SLICE_COST
    trailer = encoder(Families())
    unescaping = _unescaping(encoder)
    batch: list[Family] = []
    cost = 0
    cut = 0  # length of the header that the first family of the batch has had already
    plain = True

    def flush() -> bytes:
        text = (unescaping if plain else encoder)(Families(*batch))
        return text[cut : len(text) - len(trailer)]

    families = iter(collector.collect())
    while (family := next_family(families)) is not None:
        for part in _parts(family, slice_cost, openmetrics):
            begun = False
            for piece in pieces(part, slice_cost):
                if cost and (begun or cost + piece.cost + _FAMILY_COST > slice_cost):
                    yield flush()
                    batch, cost, cut, plain = [], 0, 0, True
                plain = plain and piece.plain
                cost += piece.cost + _FAMILY_COST
                if piece.family.samples:
                    if begun:
                        cut = len(encoder(Families(_like(part, [])))) - len(trailer)
                    batch.append(piece.family)
                    begun = True
            if not begun and not (restricted and part is family):
                batch.append(_like(part, []))
    yield flush() + trailer


def _unescaping(encoder: Encoder) -> Encoder:
    """Return an encoder that writes plain names as they are: the same bytes in less time.

    The usual escaping, by underscores, looks at every character of every name and leaves a plain
    one as it is; the others change plain names too.
    """
    function, keywords = encoder, {}
    if isinstance(encoder, partial):
        function, keywords = encoder.func, encoder.keywords
    if keywords.get("escaping", UNDERSCORES) != UNDERSCORES:
        return encoder
    return partial(function, **{**keywords, "escaping": ALLOWUTF8})


class Families(Collector):
    """Hand families to an encoder, which asks for a registry."""

    def __init__(self, *families: Family) -> None:
        self._families = families

    def collect(self) -> tuple[Family, ...]:
        return self._families


def _like(family: Family, samples: list[Sample]) -> Family:
    like = Family(family.name, family.documentation, family.type, family.unit)
    like.samples = samples
    return like


def _parts(family: Family, slice_cost: int, openmetrics: bool) -> list[Family]:
    """Return what is to be rendered one after the other in place of a family.

    The text format puts the samples that only OpenMetrics knows behind the others, as gauges of
    their own. The encoder does so for a family that it sees whole; one to be cut is sorted here.
    """
    if openmetrics or len(family.samples) <= slice_cost:
        return [family]
    grouped: dict[str, list[Sample]] = {family.name + suffix: [] for suffix in _GROUPED_IN_TEXT}
    ordinary: list[Sample] = []
    for sample in family.samples:
        grouped.get(sample.name, ordinary).append(sample)
    parts = [_like(family, ordinary)]
    for name, samples in grouped.items():
        if samples:
            gauge = Family(name, family.documentation, "gauge")
            gauge.samples = samples
            parts.append(gauge)
    return parts
