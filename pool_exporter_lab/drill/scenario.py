"""Define what a scenario is: what happens, what is to fire, and why more may."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from pool_exporter_lab.drill.verdict import Expectation

if TYPE_CHECKING:
    from pool_exporter_lab.drill.stage import Stage

EXHAUSTED_BY_LEAK = "SQLAlchemyPoolExhaustedByLeak"
EXHAUSTED_BY_LOAD = "SQLAlchemyPoolExhaustedByLoad"
DATABASE_UNREACHABLE = "SQLAlchemyPoolDatabaseUnreachable"
LEAK_IDLE = "SQLAlchemyPoolLeakIdle"
LEAK_COLLECTED = "SQLAlchemyPoolLeakCollected"
TELEMETRY_MISSING = "SQLAlchemyPoolTelemetryMissing"
TIMEOUTS = "SQLAlchemyPoolTimeouts"
STUCK = "SQLAlchemyPoolStuck"
SLOW_USES = "SQLAlchemyPoolSlowUses"
STRANDED_WAITERS = "SQLAlchemyPoolStrandedWaiters"
FAILOVER_STORM = "SQLAlchemyPoolFailoverStorm"
STALE_CONNECTIONS = "SQLAlchemyPoolStaleConnections"
CONNECTION_CHURN = "SQLAlchemyPoolConnectionChurn"
PRE_PING_COST = "SQLAlchemyPoolPrePingCost"
CAPACITY_ABOVE_DATABASE = "SQLAlchemyPoolCapacityAboveDatabase"
FAILED_ACQUIRES = "SQLAlchemyPoolFailedAcquires"
SLOTS_LOST = "SQLAlchemyPoolSlotsLost"
TELEMETRY_ERRORS = "SQLAlchemyPoolTelemetryErrors"

DETECTION_MINUTES = 120.0
"""How long an expected alert may take, in minutes of production."""
STALE_MINUTES = 240.0
"""Likewise, for StaleConnections, which waits for three hours."""

Play: TypeAlias = "Callable[[Stage], Awaitable[None]]"


@dataclass(frozen=True, slots=True)
class Scenario:
    """Hold one scenario.

    - `phrase`: what happens, in one sentence.
    - `play`: prepares, calls `stage.begin()` and does the harm; of an innocent one, all there is to see.
    - `expectation`: what is to fire.
    - `because`: why more than that may fire, and is true; empty where nothing may.
    - `queues`: callers must have been seen in the queue; else it showed nothing.
    - `programs`: what it needs besides the servers that all share.
    - `detection_minutes`: how long its alerts may take, in minutes of production.
    """

    phrase: str
    play: Play
    expectation: Expectation = field(default_factory=Expectation)
    because: str = ""
    programs: tuple[str, ...] = ()
    queues: bool = False
    detection_minutes: float = DETECTION_MINUTES

    @property
    def takes_seconds(self) -> float:
        """Return about how long a play takes, as measured: most need a minute, what waits for hours of rules seven."""
        return 410.0 if self.detection_minutes >= STALE_MINUTES else 65.0

    @property
    def innocent(self) -> bool:
        """Tell whether nothing above severity info is to fire."""
        return not self.expectation.alerts


def fault(
    phrase: str,
    play: Play,
    *alerts: str,
    also: tuple[str, ...] = (),
    because: str = "",
    says: tuple[str, ...] = (),
    tells: Mapping[str, tuple[str, ...]] | None = None,
    denies: Mapping[str, tuple[str, ...]] | None = None,
    ends: bool = False,
    programs: tuple[str, ...] = (),
    detection_minutes: float = DETECTION_MINUTES,
) -> Scenario:
    """Return a scenario in which these alerts are to fire."""
    expectation = Expectation(
        frozenset(alerts), frozenset(also), frozenset(says), tells or {}, denies or {}, ends
    )
    return Scenario(phrase, play, expectation, because, programs, detection_minutes=detection_minutes)


def innocent(phrase: str, play: Play, *, queues: bool = False, programs: tuple[str, ...] = ()) -> Scenario:
    """Return a scenario in which nobody is to be disturbed."""
    return Scenario(phrase, play, programs=programs, queues=queues)
