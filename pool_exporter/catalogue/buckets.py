"""Upper bounds of the histograms: the catalogue's defaults and those that a user gives."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from pool_exporter.catalogue.metric import PREFIX
from pool_exporter.catalogue.metrics import CATALOGUE


def resolve_buckets(
    buckets: Mapping[str, Sequence[float]] | None,
) -> dict[str, tuple[float, ...]]:
    """Return the bucket bounds of every histogram, by catalogue name, with `buckets` applied.

    `buckets` maps a histogram's name, with or without `PREFIX`, to its upper bounds in seconds,
    strictly ascending; a final +Inf may be given or left out. Raises `ValueError` (`TypeError`
    for what is not a number) that names the metric, the value and what would be right.
    """
    bounds = {m.name: m.buckets for m in CATALOGUE if m.kind == "histogram"}
    if buckets is None:
        return bounds
    if not isinstance(buckets, Mapping):
        raise TypeError(
            f"buckets={buckets!r}: expected a mapping of a histogram's name to its upper bounds "
            'in seconds, such as {"wait_seconds": [0.01, 0.1, 1]}'
        )
    for given, values in buckets.items():
        name = str(given).removeprefix(PREFIX)
        if name not in bounds:
            raise ValueError(
                f"buckets[{given!r}]: no histogram of that name; there are {', '.join(sorted(bounds))}"
            )
        bounds[name] = _checked_bounds(f"buckets[{given!r}]", values)
    return bounds


def _checked_bounds(argument: str, values: Iterable[float]) -> tuple[float, ...]:
    advice = "give positive upper bounds in seconds, ascending, such as [0.01, 0.1, 1]"
    try:
        if any(isinstance(value, (bool, str)) for value in values):
            raise TypeError("a truth value or text is no bound")
        bounds = tuple(float(value) for value in values)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{argument}={values!r}: not a list of numbers; {advice}") from error
    if bounds and bounds[-1] == math.inf:
        bounds = bounds[:-1]
    if not bounds:
        raise ValueError(f"{argument}={values!r}: no finite bound; {advice}")
    if any(not math.isfinite(bound) or bound <= 0 for bound in bounds):
        raise ValueError(f"{argument}={values!r}: a bound is negative, zero, NaN or infinite; {advice}")
    if any(low >= high for low, high in pairwise(bounds)):
        raise ValueError(f"{argument}={values!r}: not strictly ascending; {advice}")
    return bounds
