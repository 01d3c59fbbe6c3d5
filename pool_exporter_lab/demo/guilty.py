"""Name the guilty in a line each: route, function, file and line, how many connections and how long (pure)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import PurePath

from pool_exporter import HeldConnection
from pool_exporter.support.text import humanised, visible
from pool_exporter_lab.demo.moment import Moment, Site, site_of

STATES = {
    "idle": "idle",
    "idle_in_transaction": "idle in transaction",
    "busy": "running a statement",
    "orphaned": "in a pool that was disposed of",
}
"""What a use does, by the kind by which it is overdue."""


def guilty(moment: Moment, *, whole_paths: bool = False) -> list[str]:
    """Return a line for each site with overdue uses, for each with collected and for each with recovered ones.

    Those with most connections come first. `leak:` begins the lines of what is suspected or certain,
    `slow:` those of statements that take long.
    """
    return [
        f"{label}: {_described(site, whole_paths)}, {count} connection{'' if count == 1 else 's'}{what}"
        for label, site, count, what in (*_overdue(moment), *_ended(moment))
    ]


def _overdue(moment: Moment) -> Iterator[tuple[str, Site, int, str]]:
    groups: defaultdict[tuple[Site, str], list[HeldConnection]] = defaultdict(list)
    for held in moment.held:  # the oldest first
        if held.overdue is not None:
            groups[site_of(held), held.overdue].append(held)
    for (site, kind), members in sorted(groups.items(), key=lambda group: -len(group[1])):
        what = f", oldest {humanised(members[0].age_seconds)}, {STATES.get(kind, kind)}"
        yield "slow" if kind == "busy" else "leak", site, len(members), what


def _ended(moment: Moment) -> Iterator[tuple[str, Site, int, str]]:
    for event, what in (
        ("collected", " dropped without close() and taken by the garbage collector"),
        ("recovered", " given back late"),
    ):
        counts = {site: count for (kind, site), count in moment.events.items() if kind == event}
        for site in sorted(counts, key=lambda site: -counts[site]):
            yield "leak", site, counts[site], what


def _described(site: Site, whole_path: bool) -> str:
    parts = [site.owner]
    if site.function is not None and site.function != site.owner:
        parts.append(site.function)
    if site.filename is not None:
        parts.append(f"{site.filename if whole_path else PurePath(site.filename).name}:{site.lineno}")
    return visible(" ".join(parts), 1000)
