"""Hold what came out of one drill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pool_exporter_lab.drill.aftermath import Aftermath
from pool_exporter_lab.drill.scenario import Scenario
from pool_exporter_lab.drill.verdict import Firing, problems


@dataclass(frozen=True, slots=True)
class Outcome:
    """Hold what fired and what was said.

    - `firings`: the first notification of each alert, in their order; seconds are as measured.
    - `undelivered`: alerts that fired in Prometheus and of which no notification came to `receiver`, in words.
    - `said`: state and words of the status page's verdict while the fault lasted; None if it did not answer.
    - `aftermath`: how it ended, where the scenario wants that it does.
    - `lost_scrapes`: the share of scrapes that failed, 0 to 1: what a loaded machine does to a drill.
    - `acquires`: how many the applications began; 0 would prove nothing. `peak_queued`: most callers queued.
    - `error`: why the drill could not be played to its end; None if it was.
    """

    name: str
    scenario: Scenario
    seed: int
    seconds: float
    firings: Sequence[Firing] = ()
    undelivered: Sequence[str] = ()
    receiver: str = "the receiver"
    said: tuple[str, str] | None = None
    aftermath: Aftermath = field(default_factory=Aftermath)
    lost_scrapes: float = 0.0
    acquires: float = 0.0
    peak_queued: float = 0.0
    error: str | None = None

    @property
    def problems(self) -> Sequence[str]:
        """Return in what the drill differs from what was expected; nothing if it passed."""
        if self.error is not None:
            return [self.error]
        if not self.acquires:
            return ["nothing was asked of the pool"]
        if self.scenario.queues and not self.peak_queued:
            return ["no scrape saw a caller queue, so that this scenario showed nothing"]
        found = problems(self.scenario.expectation, self.firings, self.undelivered, self.said, self.receiver)
        return found + self.aftermath.problems

    @property
    def detected_seconds(self) -> float | None:
        """Return when the last of the expected alerts came; None for an innocent or an undetected one."""
        expected = self.scenario.expectation.alerts
        times = [firing.seconds for firing in self.firings if firing.alert in expected]
        return max(times) if expected and len(times) == len(expected) else None

    def as_json(self, factor: float) -> Mapping[str, object]:
        """Return the outcome as JSON has it; production seconds are the measured ones times `factor`."""
        expectation, over = self.scenario.expectation, self.aftermath.over_seconds
        return {
            "scenario": self.name,
            "phrase": self.scenario.phrase,
            "innocent": self.scenario.innocent,
            "seed": self.seed,
            "passed": not self.problems,
            "problems": list(self.problems),
            "expected": sorted(expectation.alerts),
            "may_fire_too": sorted(expectation.also),
            "because": self.scenario.because or None,
            "must_say": {subject: list(words) for subject, words in expectation.tells.items()},
            "must_not_say": {subject: list(words) for subject, words in expectation.denies.items()},
            "must_end": expectation.ends,
            "fired": [
                {
                    "alert": firing.alert,
                    "severity": firing.severity,
                    "seconds": round(firing.seconds, 2),
                    "production_seconds": round(firing.seconds * factor),
                    "description": firing.description,
                }
                for firing in self.firings
            ],
            "over_seconds": None if over is None else round(over, 2),
            "undelivered": list(self.undelivered),
            "verdict": None if self.said is None else {"state": self.said[0], "text": self.said[1]},
            "acquires": round(self.acquires),
            "peak_queued": round(self.peak_queued),
            "lost_scrapes": round(self.lost_scrapes, 4),
            "seconds": round(self.seconds, 1),
        }
