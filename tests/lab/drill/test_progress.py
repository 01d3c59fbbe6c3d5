"""What a drill says while it is played: what, for about how long, and what has begun."""

from __future__ import annotations

import io

import pytest

from pool_exporter_lab.drill.outcome import Outcome
from pool_exporter_lab.drill.progress import Progress, expected_seconds
from pool_exporter_lab.drill.scenario import STALE_MINUTES, Scenario, fault, innocent


async def _nothing(stage: object) -> None:
    """Play nothing."""


SHORT = innocent("nothing", _nothing)
LONG = fault("much", _nothing, "A", detection_minutes=STALE_MINUTES)


@pytest.mark.parametrize(
    ("scenarios", "jobs", "line"),
    [
        ({"short": SHORT}, 6, "playing short; that takes about 2 minutes\n"),
        ({"short": SHORT, "long": LONG}, 6, "playing short, long; that takes about 7 minutes\n"),
        ({f"s{n}": SHORT for n in range(12)}, 6, "playing 12 scenarios; that takes about 3 minutes\n"),
    ],
)
def test_the_first_line_says_what_is_played_and_how_long_it_takes(
    scenarios: dict[str, Scenario], jobs: int, line: str
) -> None:
    """A few are named, many are counted; those that are played at the same time share the minutes."""
    stream = io.StringIO()
    Progress(stream).begin(scenarios, jobs)
    assert stream.getvalue() == line


def test_what_is_played_one_after_the_other_takes_longer() -> None:
    """The time is that of the longest, or of all divided by how many are played at a time."""
    many = {f"s{n}": SHORT for n in range(12)}
    assert expected_seconds(many, 1) > 6 * expected_seconds(many, 12)
    assert expected_seconds({**many, "long": LONG}, 12) == expected_seconds({"long": LONG}, 1)


def test_each_end_is_told() -> None:
    """A line a scenario says whether it went as expected; the details come with the matrix."""
    stream = io.StringIO()
    Progress(stream).done(Outcome("a", SHORT, 1, 60.0, acquires=1))
    Progress(stream).done(Outcome("b", SHORT, 1, 60.0))
    assert stream.getvalue() == "a: as expected\nb: not as expected\n"
