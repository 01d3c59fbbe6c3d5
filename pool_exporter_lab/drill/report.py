"""Print what fired, when, and what was expected: a block a scenario, or one JSON object for all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

from pool_exporter.support.text import humanised, visible
from pool_exporter_lab.drill.outcome import Outcome
from pool_exporter_lab.drill.scale import FACTOR, SCRAPE_SECONDS
from pool_exporter_lab.drill.verdict import Expectation

PREFIX = "SQLAlchemyPool"


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Hold what the outcomes depend on: the servers' versions and how many scenarios ran at a time."""

    prometheus: str
    seed: int
    jobs: int


def introduction(circumstances: Circumstances) -> str:
    """Return what is to be known before the first outcome."""
    return (
        f"Prometheus {circumstances.prometheus}, seed {circumstances.seed}, "
        f"{circumstances.jobs} at a time; time is shortened {FACTOR:g} times: "
        f"a scrape each {SCRAPE_SECONDS:g} s stands for one each {SCRAPE_SECONDS * FACTOR:g} s"
    )


def text(outcome: Outcome) -> str:
    """Return one outcome as lines for a terminal."""
    kind = "innocent" if outcome.scenario.innocent else "fault"
    lines = [
        f"{'ok  ' if not outcome.problems else 'FAIL'} {outcome.name} ({kind}): {outcome.scenario.phrase}",
        f"     expected: {_names(outcome.scenario.expectation.alerts)}",
    ]
    lines += _words(outcome.scenario.expectation)
    for firing in outcome.firings:
        lines.append(
            f"     fired:    {_short(firing.alert)} ({firing.severity}) after {firing.seconds:.1f} s, "
            f"in production {_production(firing.seconds)}"
        )
        if firing.description:
            lines.append(f"               {visible(firing.description, 600)}")
    if not outcome.firings:
        lines.append("     fired:    nothing")
    if outcome.aftermath.over_seconds is not None:
        lines.append(f"     over:     after {outcome.aftermath.over_seconds:.1f} s")
    if outcome.said is not None:
        lines.append(f"     page:     {outcome.said[1]}")
    if outcome.lost_scrapes >= 0.01:
        lines.append(f"     {outcome.lost_scrapes:.0%} of the scrapes failed")
    lines += [f"     problem:  {problem}" for problem in outcome.problems]
    return "\n".join(lines)


def summary(outcomes: Sequence[Outcome]) -> str:
    """Return the last line."""
    failed = [outcome.name for outcome in outcomes if outcome.problems]
    if failed:
        return f"{len(failed)} of {len(outcomes)} not as expected: {', '.join(failed)}"
    return f"all {len(outcomes)} as expected"


def as_json(outcomes: Sequence[Outcome], circumstances: Circumstances) -> str:
    """Return all outcomes as one JSON object on one line: the matrix."""
    matrix: Mapping[str, object] = {
        "factor": FACTOR,
        "scrape_seconds": SCRAPE_SECONDS,
        "prometheus": circumstances.prometheus,
        "seed": circumstances.seed,
        "jobs": circumstances.jobs,
        "passed": not any(outcome.problems for outcome in outcomes),
        "outcomes": [outcome.as_json(FACTOR) for outcome in outcomes],
    }
    return json.dumps(matrix)


def print_json(outcomes: Sequence[Outcome], circumstances: Circumstances, output: TextIO) -> None:
    """Print the matrix."""
    print(as_json(outcomes, circumstances), file=output)


def _words(expectation: Expectation) -> list[str]:
    """Return what is to be said and what is not, and whether it is to end, a line each."""
    lines = [
        f"     {must} {words!r}, {_short(subject)}"
        for must, said in (("must say:", expectation.tells), ("must not say:", expectation.denies))
        for subject, all_words in said.items()
        for words in all_words
    ]
    return lines + (["     must end: resolved, and nothing afterwards"] if expectation.ends else [])


def _names(alerts: frozenset[str]) -> str:
    return ", ".join(map(_short, sorted(alerts))) or "nothing above severity info"


def _short(alert: str) -> str:
    return alert.removeprefix(PREFIX)


def _production(seconds: float) -> str:
    return humanised(seconds * FACTOR) if seconds >= 0 else f"{humanised(-seconds * FACTOR)} before the fault"
