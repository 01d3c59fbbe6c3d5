"""The table of scenarios: complete, and free of contradictions."""

from __future__ import annotations

import re

import pytest

from pool_exporter.monitoring.rules import RuleOptions, rendered
from pool_exporter_lab.drill import scenario as names
from pool_exporter_lab.drill.scenarios.table import SCENARIOS
from pool_exporter_lab.drill.verdict import PAGE

EVERY_ALERT = {
    alert
    for which in ("default", "opt-in")
    for alert in re.findall(r"alert: (\w+)", rendered(RuleOptions(), which=which))  # type: ignore[arg-type]
}
FAULTS = [name for name, scenario in SCENARIOS.items() if not scenario.innocent]


def test_there_are_enough_of_both_kinds() -> None:
    """At least 24 scenarios, of which at least 12 are innocent."""
    assert len(SCENARIOS) >= 24
    assert len(SCENARIOS) - len(FAULTS) >= 12


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_has_a_name_for_labels_and_a_sentence(name: str) -> None:
    """The name can be a label, a file and a database; the sentence fits a line."""
    assert re.fullmatch(r"[a-z][a-z-]{2,30}", name)
    assert 10 < len(SCENARIOS[name].phrase) < 90


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_expects_alerts_that_exist(name: str) -> None:
    """What is to fire, and what may, are alerts of the rule files."""
    expectation = SCENARIOS[name].expectation
    assert expectation.alerts | expectation.also <= EVERY_ALERT
    assert not expectation.alerts & expectation.also


@pytest.mark.parametrize("name", FAULTS)
def test_leak_and_load_are_never_both_right(name: str) -> None:
    """No scenario accepts both verdicts on a full pool."""
    expectation = SCENARIOS[name].expectation
    accepted = expectation.alerts | expectation.also
    assert not {names.EXHAUSTED_BY_LEAK, names.EXHAUSTED_BY_LOAD} <= accepted


@pytest.mark.parametrize("name", FAULTS)
def test_what_may_fire_too_is_justified(name: str) -> None:
    """A scenario that allows more than it expects says why that is true; one that does not, has no excuse."""
    scenario = SCENARIOS[name]
    assert bool(scenario.because) == bool(scenario.expectation.also)


def test_every_alert_is_the_verdict_on_some_fault() -> None:
    """There is no alert that no drill makes fire; Timeouts, a symptom of many faults, may come with them."""
    expectations = [SCENARIOS[name].expectation for name in FAULTS]
    assert {alert for one in expectations for alert in one.alerts} == EVERY_ALERT - {names.TIMEOUTS}
    assert any(names.TIMEOUTS in one.also for one in expectations)


@pytest.mark.parametrize("name", FAULTS)
def test_words_are_asked_of_what_has_to_come(name: str) -> None:
    """Words are demanded of the page and of alerts that are expected, or forbidden to them, never to others."""
    expectation = SCENARIOS[name].expectation
    for words in (expectation.tells, expectation.denies):
        assert words.keys() <= {PAGE, *expectation.alerts}
        assert all(one and all(one) for one in words.values())


@pytest.mark.parametrize("name", SCENARIOS)
def test_only_a_fault_that_ends_is_to_be_resolved(name: str) -> None:
    """What is to end has to have begun: an innocent scenario has nothing to be resolved."""
    expectation = SCENARIOS[name].expectation
    assert expectation.alerts or not expectation.ends


def test_the_end_of_an_outage_is_played() -> None:
    """Some scenario watches what is notified when the cause is over."""
    assert any(one.expectation.ends for one in SCENARIOS.values())


def test_behind_the_pool_is_said_of_every_fault_of_the_pooler() -> None:
    """Whatever is wrong with pgbouncer, some words that must come say that it is behind the pool."""
    through = [one for one in SCENARIOS.values() if "pgbouncer" in one.programs]
    assert len(through) == 3
    assert all(("behind the pool",) in one.expectation.tells.values() for one in through)
