"""The policy by which a use is overdue: its arguments, and its verdict on what is seen of a use."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pool_exporter import LeakPolicy, instrument
from pool_exporter.ledger.leaks import Observation, overdue_kind

POLICY = LeakPolicy(idle_in_transaction_seconds=60, idle_seconds=300, busy_seconds=400, orphaned_seconds=500)


@pytest.mark.parametrize(
    "name", ["idle_in_transaction_seconds", "idle_seconds", "busy_seconds", "orphaned_seconds"]
)
@pytest.mark.parametrize("value", [0, -1, math.nan, -math.inf])
def test_a_time_that_is_none_is_refused(name: str, value: float) -> None:
    """A time that is zero, negative or no number is refused by its name and value."""
    with pytest.raises(ValueError, match=f"{name}={value!r}"):
        LeakPolicy(**{name: value})


@pytest.mark.parametrize("value", ["60", None, True, [60]])
def test_what_is_no_number_is_refused(value: Any) -> None:
    """A time must be a number of seconds."""
    with pytest.raises(TypeError, match=r"idle_seconds=.*expected a number of seconds"):
        LeakPolicy(idle_seconds=value)


def test_a_number_too_large_for_a_float_is_for_ever() -> None:
    """A time that no float holds is as good as an infinite one."""
    assert overdue_kind(LeakPolicy(idle_seconds=10**400), seen(quiet_for=1e9)) is None


def test_reversed_times_are_refused() -> None:
    """An open transaction must not be allowed to be idle for longer than none."""
    with pytest.raises(ValueError, match=r"idle_in_transaction_seconds=400 is more than idle_seconds=300"):
        LeakPolicy(idle_in_transaction_seconds=400, idle_seconds=300)


def test_an_infinite_time_switches_a_kind_off() -> None:
    """math.inf is no reversed time: the kind is off, and a use in a transaction is merely idle."""
    policy = LeakPolicy(idle_in_transaction_seconds=math.inf, idle_seconds=300)
    assert overdue_kind(policy, seen(quiet_for=299, in_transaction=True)) is None
    assert overdue_kind(policy, seen(quiet_for=300, in_transaction=True)) == "idle"


@pytest.mark.parametrize("value", ["listener", 5, [""], [None], b"x"])
def test_exemptions_that_are_no_names_are_refused(value: Any) -> None:
    """`exempt` is a collection of names; a single text is the likely mistake."""
    with pytest.raises(TypeError, match="exempt"):
        LeakPolicy(exempt=value)


def test_instrument_takes_a_policy_or_none(tmp_path: object) -> None:
    """Anything else than a policy or None is refused at once, with the remedy."""
    with pytest.raises(TypeError, match="leaks=300: expected a LeakPolicy, or None"):
        instrument(object(), leaks=300)  # type: ignore[arg-type]  # on purpose


def seen(
    *,
    active_for: float | None = None,
    quiet_for: float = 0.0,
    busy: bool = False,
    in_transaction: bool | None = False,
    orphaned_for: float | None = None,
) -> Observation:
    """Make an observation of a use."""
    return Observation(
        active_for=quiet_for if active_for is None else active_for,
        quiet_for=quiet_for,
        busy=busy,
        in_transaction=in_transaction,
        orphaned_for=orphaned_for,
    )


@pytest.mark.parametrize(
    ("observation", "kind"),
    [
        (seen(quiet_for=59.9, in_transaction=True), None),
        (seen(quiet_for=60, in_transaction=True), "idle_in_transaction"),
        (seen(quiet_for=299.9), None),
        (seen(quiet_for=300), "idle"),
        (seen(quiet_for=300, in_transaction=None), "idle"),
        (seen(quiet_for=300, in_transaction=True), "idle_in_transaction"),
        (seen(active_for=399.9, busy=True, in_transaction=True), None),
        (seen(active_for=400, busy=True, in_transaction=True), "busy"),
        (seen(quiet_for=1, orphaned_for=499.9), None),
        (seen(quiet_for=1, orphaned_for=500), "orphaned"),
        (seen(active_for=9_999, busy=True, orphaned_for=500), "orphaned"),
    ],
)
def test_a_use_is_overdue_by_one_kind(observation: Observation, kind: str | None) -> None:
    """What is seen of a use gives one kind at most, from its threshold on."""
    assert overdue_kind(POLICY, observation) == kind
