"""What a drill prints for people: what was expected, what came, and in whose words."""

from __future__ import annotations

from pool_exporter_lab.drill.aftermath import Aftermath
from pool_exporter_lab.drill.outcome import Outcome
from pool_exporter_lab.drill.report import text
from pool_exporter_lab.drill.scenario import fault
from pool_exporter_lab.drill.verdict import PAGE, Firing


async def _nothing(stage: object) -> None:
    """Play nothing."""


def test_an_outcome_says_what_was_to_be_said_and_what_was() -> None:
    """Expected alerts, the words that they and the page must have, and what came, a line each."""
    scenario = fault(
        "it is stuck",
        _nothing,
        "SQLAlchemyPoolStuck",
        tells={PAGE: ("behind the pool",), "SQLAlchemyPoolStuck": ("behind the pool",)},
        denies={"SQLAlchemyPoolStuck": ("leak",)},
    )
    fired = Firing("SQLAlchemyPoolStuck", "critical", 8.0, "Time goes by behind the pool.")
    outcome = Outcome("stuck", scenario, 1, 60.0, [fired], said=("full_slow", "full: behind"), acquires=5)
    assert text(outcome).splitlines() == [
        "FAIL stuck (fault): it is stuck",
        "     expected: Stuck",
        "     must say: 'behind the pool', the status page",
        "     must say: 'behind the pool', Stuck",
        "     must not say: 'leak', Stuck",
        "     fired:    Stuck (critical) after 8.0 s, in production 4 min",
        "               Time goes by behind the pool.",
        "     page:     full: behind",
        "     problem:  the status page does not say 'behind the pool', but 'full: behind'",
    ]


def test_an_outcome_says_when_it_was_over() -> None:
    """A scenario that is to end has a line for that, and one for when it did."""
    scenario = fault("it comes back", _nothing, "SQLAlchemyPoolStuck", ends=True)
    fired = Firing("SQLAlchemyPoolStuck", "critical", 8.0, "")
    outcome = Outcome("back", scenario, 1, 60.0, [fired], acquires=5, aftermath=Aftermath((), 40.0))
    assert text(outcome).splitlines() == [
        "ok   back (fault): it comes back",
        "     expected: Stuck",
        "     must end: resolved, and nothing afterwards",
        "     fired:    Stuck (critical) after 8.0 s, in production 4 min",
        "     over:     after 40.0 s",
    ]
