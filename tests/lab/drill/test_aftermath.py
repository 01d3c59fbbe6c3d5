"""How an outage ended: what is resolved, and what came although all was over."""

from __future__ import annotations

from pool_exporter_lab.drill.aftermath import Aftermath, aftermath
from pool_exporter_lab.drill.outcome import Outcome
from pool_exporter_lab.drill.scenario import Scenario
from pool_exporter_lab.drill.verdict import Expectation, Firing
from pool_exporter_lab.drill.webhook import Notice


def notice(
    alert: str, received: float, *, firing: bool = True, subject: str = "here", severity: str = "warning"
) -> Notice:
    return Notice(alert, subject, severity, "", firing, received)


def ended(*notices: Notice) -> Aftermath:
    return aftermath(notices, {"here"}, 10.0, {"Down"})


def test_what_is_resolved_and_followed_by_nothing_ended_well() -> None:
    """The time of the end is since the fault began; symptoms before it, and their own end, are none of its business."""
    good = ended(
        notice("Symptom", 11.0),
        notice("Down", 12.0),
        notice("Down", 40.0, firing=False),
        notice("Symptom", 41.0, firing=False),
    )
    assert good == Aftermath((), 30.0, ())
    assert good.problems == []


def test_what_still_fires_is_named() -> None:
    """An alert of which the last news is that it fires, was not resolved, also if it was meanwhile."""
    for notices in (
        [notice("Down", 12.0)],
        [notice("Down", 12.0), notice("Down", 20.0, firing=False), notice("Down", 30.0)],
    ):
        assert ended(*notices).problems == ["Down was not resolved"]


def test_what_never_fired_is_not_said_twice() -> None:
    """That an alert did not come is said elsewhere."""
    assert ended() == Aftermath()


def test_a_symptom_after_the_end_is_named_with_its_delay() -> None:
    """One that was muted and is told of once its cause is over, is a problem, be it new or a repetition."""
    late = ended(
        notice("Symptom", 11.0),
        notice("Down", 12.0),
        notice("Down", 40.0, firing=False),
        notice("Symptom", 41.5),
    )
    assert late.problems == ["Symptom (warning) fired 1.5 s after all was over"]


def test_what_informs_or_is_about_others_may_come_later() -> None:
    """Severity info and other jobs are left out."""
    down = (notice("Down", 12.0), notice("Down", 40.0, firing=False))
    assert ended(*down, notice("Slow", 41.0, severity="info")).problems == []
    assert ended(*down, notice("Down", 41.0, subject="elsewhere")).problems == []


async def _nothing(stage: object) -> None:
    """Play nothing."""


def test_a_bad_end_fails_the_drill_and_stands_in_the_matrix() -> None:
    """Its problems are the drill's, and the time of the end is in the JSON."""
    scenario = Scenario("x", _nothing, Expectation(frozenset({"Down"}), ends=True))
    late = Firing("Symptom", "warning", 31.0, "")
    firings = [Firing("Down", "critical", 2.0, "")]
    good = Outcome("x", scenario, 1, 60.0, firings, acquires=1, aftermath=Aftermath((), 30.0))
    assert good.as_json(30.0) | {"passed": True, "must_end": True, "over_seconds": 30.0} == good.as_json(30.0)
    bad = Outcome("x", scenario, 1, 60.0, firings, acquires=1, aftermath=Aftermath((), 30.0, [late]))
    assert bad.problems == ["Symptom (warning) fired 1.0 s after all was over"]
