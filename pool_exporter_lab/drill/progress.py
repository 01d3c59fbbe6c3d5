"""Say how far the drills are, for whoever waits: what is played, how long it takes, what has begun."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TextIO

from pool_exporter_lab.drill.outcome import Outcome
from pool_exporter_lab.drill.scenario import Scenario

_SERVERS_SECONDS = 10.0
"""About how long the servers that all scenarios share take to start and to end."""
_MAX_NAMED = 5


class Progress:
    """Write lines to a stream, so that nobody has to guess whether anything goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def begin(self, scenarios: Mapping[str, Scenario], jobs: int) -> None:
        """Say what is played and about how long it takes, before anything is started."""
        names = ", ".join(scenarios) if len(scenarios) <= _MAX_NAMED else f"{len(scenarios)} scenarios"
        minutes = math.ceil(expected_seconds(scenarios, jobs) / 60)
        self.tell(f"playing {names}; that takes about {minutes} minutes")

    def tell(self, line: str) -> None:
        """Write one line."""
        print(line, file=self._stream, flush=True)

    def done(self, outcome: Outcome) -> None:
        """Say that a scenario has been played."""
        self.tell(f"{outcome.name}: {'not as expected' if outcome.problems else 'as expected'}")


def expected_seconds(scenarios: Mapping[str, Scenario], jobs: int) -> float:
    """Return about how long it takes to play these, so many at a time."""
    each = [scenario.takes_seconds for scenario in scenarios.values()]
    return _SERVERS_SECONDS + max(*each, sum(each) / jobs)
