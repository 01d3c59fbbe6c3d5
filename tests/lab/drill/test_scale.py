"""Time is shortened as a whole, and not so far that a rule sees too few scrapes."""

from __future__ import annotations

import re

import pytest

from pool_exporter.ledger.leak_policy import LeakPolicy
from pool_exporter.monitoring.rules import RuleOptions, rendered
from pool_exporter.monitoring.rules.durations import seconds_of
from pool_exporter_lab.drill.run import RULES
from pool_exporter_lab.drill.scale import FACTOR, POLICY, SCRAPE_SECONDS, minutes


@pytest.mark.parametrize("which", ["default", "opt-in"])
def test_every_window_of_the_rules_has_four_scrapes(which: str) -> None:
    """The shortest range that a rule looks back over is at least four scrape intervals long."""
    ranges = re.findall(r"\[(\d+\w+)\]", rendered(RULES, which=which))  # type: ignore[arg-type]
    assert len(ranges) > 10
    assert min(map(seconds_of, ranges)) >= 4 * SCRAPE_SECONDS


def test_the_rules_are_the_default_ones_shortened() -> None:
    """No threshold, window or delay is another than the committed files', but for the one factor."""
    assert RuleOptions(time_scale=FACTOR) == RULES


def test_the_policy_is_the_default_one_shortened() -> None:
    """Each time of the LeakPolicy is the default divided by the factor."""
    default = LeakPolicy()
    for name in ("idle_in_transaction_seconds", "idle_seconds", "busy_seconds", "orphaned_seconds"):
        assert getattr(POLICY, name) * FACTOR == pytest.approx(getattr(default, name))


def test_a_minute_is_two_seconds() -> None:
    """Production's minutes are told in the drill's seconds."""
    assert minutes(1) == 2.0
