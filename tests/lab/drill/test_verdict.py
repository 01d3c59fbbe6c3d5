"""What fired against what was to fire: each way to differ is said, and nothing else."""

from __future__ import annotations

import json

from pool_exporter_lab.drill.outcome import Outcome
from pool_exporter_lab.drill.scenario import Scenario
from pool_exporter_lab.drill.verdict import PAGE, Expectation, Firing, first_firings, muted, problems
from pool_exporter_lab.drill.webhook import Notice, parse

LEAK = Expectation(frozenset({"Leak"}), also=frozenset({"Timeouts"}))


def fired(alert: str, severity: str = "warning", seconds: float = 5.0) -> Firing:
    return Firing(alert, severity, seconds, "")


def test_exactly_what_is_expected_is_no_problem() -> None:
    """The expected alert, with or without what may fire too, passes."""
    assert problems(LEAK, [fired("Leak")], [], None) == []
    assert problems(LEAK, [fired("Leak"), fired("Timeouts")], [], None) == []


def test_an_alert_that_did_not_fire_is_named() -> None:
    """An expected alert that is missing is a problem, whatever else fired."""
    assert problems(LEAK, [fired("Timeouts")], [], None) == ["Leak did not fire"]


def test_an_expected_alert_may_be_one_that_only_informs() -> None:
    """Some faults are worth no more than severity info; they must be seen all the same."""
    assert problems(LEAK, [fired("Leak", "info")], [], None) == []


def test_an_alert_that_was_not_expected_is_named_with_its_time() -> None:
    """Any other alert above info is a problem, also for an innocent scenario."""
    said = ["Load (critical) fired after 5.0 s and was not expected"]
    assert problems(LEAK, [fired("Leak"), fired("Load", "critical")], [], None) == said
    assert problems(Expectation(), [fired("Load", "critical")], [], None) == said


def test_an_innocent_scenario_may_inform() -> None:
    """Severity info disturbs nobody."""
    assert problems(Expectation(), [fired("Load", "info")], [], None) == []


def test_an_alert_before_the_fault_is_a_false_one() -> None:
    """An expected alert that came before the fault did not detect it."""
    assert problems(LEAK, [fired("Leak", seconds=-2.0)], [], None) == [
        "Leak fired 2.0 s before the fault began"
    ]


def test_an_alert_that_nobody_was_told_of_is_a_problem() -> None:
    """What fired in Prometheus and never arrived is said, so that a receiver that is down is not silence."""
    assert problems(Expectation(), [], ["Leak"], None) == [
        "Leak fired in Prometheus, and no notification of it came to the receiver"
    ]


def test_an_expected_alert_that_was_not_delivered_did_fire() -> None:
    """It is not said to have been missed by the rules too, and the receiver is named."""
    receiver = "the receiver http://127.0.0.1:1/, which took 0 and turned 3 away"
    assert problems(LEAK, [], ["Leak"], None, receiver) == [
        f"Leak fired in Prometheus, and no notification of it came to {receiver}"
    ]


def test_the_status_page_must_agree() -> None:
    """Where a verdict of the page is expected, another one, or none, is a problem."""
    expectation = Expectation(frozenset({"Leak"}), says=frozenset({"full_slow"}))
    assert problems(expectation, [fired("Leak")], [], ("full_slow", "")) == []
    assert problems(expectation, [fired("Leak")], [], None) == ["the status page said None, not full_slow"]


def test_an_alert_and_the_page_must_say_what_is_asked_of_them() -> None:
    """Words that are missing in a description or in the page's verdict are a problem, which quotes what was said."""
    expectation = Expectation(frozenset({"Leak"}), tells={"Leak": ("behind",), PAGE: ("behind",)})
    good = Firing("Leak", "warning", 5.0, "it is behind the pool")
    assert problems(expectation, [good], [], ("slow", "behind the pool")) == []
    assert problems(expectation, [fired("Leak")], [], ("slow", "full")) == [
        "Leak does not say 'behind', but ''",
        "the status page does not say 'behind', but 'full'",
    ]
    assert problems(expectation, [good], [], None) == ["the status page does not say 'behind', but ''"]
    assert problems(expectation, [], [], ("slow", "behind")) == ["Leak did not fire"]


def test_all_words_are_asked_for() -> None:
    """Where several are demanded, each that is missing is said."""
    expectation = Expectation(frozenset({"Leak"}), tells={"Leak": ("GET /chat", "quiet", "full")})
    short = Firing("Leak", "warning", 5.0, "it is full")
    assert problems(expectation, [short], [], None) == [
        "Leak does not say 'GET /chat', but 'it is full'",
        "Leak does not say 'quiet', but 'it is full'",
    ]


def test_words_that_would_be_wrong_are_quoted() -> None:
    """What an alert or the page must not say is a problem where it says so, and none where it does not or stays away."""
    expectation = Expectation(
        frozenset({"Load"}), denies={"Load": ("not a leak",), PAGE: ("not a leak",), "Other": ("x",)}
    )
    hasty = Firing("Load", "warning", 5.0, "this is load, not a leak.")
    assert problems(expectation, [hasty], [], ("full_load", "busy")) == [
        "Load says 'not a leak', which is wrong here: 'this is load, not a leak.'"
    ]
    assert problems(expectation, [fired("Load")], [], ("full_load", "not a leak")) == [
        "the status page says 'not a leak', which is wrong here: 'not a leak'"
    ]
    assert problems(expectation, [fired("Load")], [], None) == []


def notice(alert: str, received: float, *, subject: str = "here", firing: bool = True) -> Notice:
    return Notice(alert, subject, "warning", "", firing, received)


def test_only_the_first_firing_of_each_alert_of_the_job_counts() -> None:
    """Repetitions, resolved ones and other jobs are left out, its servers are not, and the order is that of arrival."""
    notices = [
        notice("B", 14.0),
        notice("A", 13.0),
        notice("A", 12.0, firing=False),
        notice("A", 15.0),
        notice("C", 12.5, subject="elsewhere"),
        notice("D", 16.0, subject="db:5432"),
    ]
    firings = first_firings(notices, {"here", "db:5432"}, began=10.0)
    assert [(firing.alert, firing.seconds) for firing in firings] == [("A", 3.0), ("B", 4.0), ("D", 6.0)]


def test_a_notification_is_read() -> None:
    """Name, job or server, severity, description and state of each alert are taken from Alertmanager's JSON."""
    body = {
        "alerts": [
            {
                "status": "firing",
                "labels": {"alertname": "A", "job": "here", "severity": "critical"},
                "annotations": {"description": "what it is"},
            },
            {"status": "resolved", "labels": {"alertname": "B", "server": "db:5432"}},
        ]
    }
    assert parse(json.dumps(body).encode(), 7.0) == [
        Notice("A", "here", "critical", "what it is", True, 7.0),
        Notice("B", "db:5432", "", "", False, 7.0),
    ]


def test_what_is_no_notification_is_none() -> None:
    """Other text and other JSON give nothing, and do not raise."""
    for body in (b"", b"[]", b"{}", b'{"alerts": [1]}', b'{"alerts": [{"labels": {}}]}', b"\xff"):
        assert parse(body, 0.0) == []


async def _nothing(stage: object) -> None:
    """Play nothing."""


def test_the_time_to_detection_is_that_of_the_last_expected_alert() -> None:
    """It is given once all expected alerts came, and never for what may fire too."""
    scenario = Scenario("x", _nothing, Expectation(frozenset({"A", "B"}), also=frozenset({"C"})))
    complete = Outcome(
        "x", scenario, 1, 60.0, [fired("A", seconds=3), fired("B", seconds=8), fired("C", seconds=9)]
    )
    assert complete.detected_seconds == 8
    assert Outcome("x", scenario, 1, 60.0, [fired("A", seconds=3)]).detected_seconds is None


def test_a_drill_that_broke_off_has_failed() -> None:
    """An error is the one problem, whatever had fired until then."""
    outcome = Outcome("x", Scenario("x", _nothing), 1, 60.0, error="OSError: no space")
    assert outcome.problems == ["OSError: no space"]
    assert outcome.as_json(30.0)["passed"] is False


def test_the_matrix_gives_both_times() -> None:
    """JSON has the seconds as measured, and those of production."""
    scenario = Scenario("x", _nothing, Expectation(frozenset({"A"})))
    outcome = Outcome("x", scenario, 1, 60.0, [fired("A", seconds=8.2)], acquires=1)
    (firing,) = outcome.as_json(30.0)["fired"]  # type: ignore[misc]
    assert (firing["seconds"], firing["production_seconds"]) == (8.2, 246)


def test_a_drill_in_which_nothing_was_asked_proves_nothing() -> None:
    """Silence is no success where the application was not used."""
    idle = Outcome("x", Scenario("x", _nothing), 1, 60.0)
    assert idle.problems == ["nothing was asked of the pool"]
    used = Outcome("x", Scenario("x", _nothing), 1, 60.0, acquires=100)
    assert used.problems == []


def test_a_cause_mutes_its_symptoms() -> None:
    """What a cause explains need not arrive; what nothing mutes must."""
    mutes = {"Leak": ["Timeouts", "Stuck"], "Stuck": ["Load"]}
    assert muted({"Leak", "Timeouts", "Other"}, mutes) == {"Timeouts", "Stuck"}
    assert muted({"Other"}, mutes) == set()


def test_a_drill_that_is_to_queue_and_did_not_proves_nothing() -> None:
    """A burst that no scrape has seen says nothing about the rules."""
    burst = Scenario("x", _nothing, queues=True)
    unseen = Outcome("x", burst, 1, 60.0, acquires=100)
    assert unseen.problems == ["no scrape saw a caller queue, so that this scenario showed nothing"]
    assert Outcome("x", burst, 1, 60.0, acquires=100, peak_queued=2).problems == []
