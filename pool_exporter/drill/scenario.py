"""Define what a scenario is: what happens, what is to fire, and why more may."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from pool_exporter.drill.verdict import Expectation

if TYPE_CHECKING:
    from pool_exporter.drill.stage import Stage

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
    """

    phrase: str
    play: Play
    expectation: Expectation = field(default_factory=Expectation)
    because: str = ""
    programs: tuple[str, ...] = ()
    queues: bool = False

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
    programs: tuple[str, ...] = (),
) -> Scenario:
    """Return a scenario in which these alerts are to fire."""
    expectation = Expectation(frozenset(alerts), frozenset(also), frozenset(says))
    return Scenario(phrase, play, expectation, because, programs)


def innocent(phrase: str, play: Play, *, queues: bool = False) -> Scenario:
    """Return a scenario in which nobody is to be disturbed."""
    return Scenario(phrase, play, queues=queues)
