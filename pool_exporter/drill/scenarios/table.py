"""List all scenarios, the faults first."""

from __future__ import annotations

from collections.abc import Mapping

from pool_exporter.drill.scenario import Scenario
from pool_exporter.drill.scenarios.bookkeeping import BOOKKEEPING, NEIGHBOURS
from pool_exporter.drill.scenarios.database import DATABASE
from pool_exporter.drill.scenarios.innocent import INNOCENT
from pool_exporter.drill.scenarios.leaks import LEAKS
from pool_exporter.drill.scenarios.load import LOAD
from pool_exporter.drill.scenarios.outages import OUTAGES
from pool_exporter.drill.scenarios.pooler import POOLER

SCENARIOS: Mapping[str, Scenario] = {
    **LEAKS,
    **LOAD,
    **DATABASE,
    **OUTAGES,
    **POOLER,
    **BOOKKEEPING,
    **INNOCENT,
    **NEIGHBOURS,
}
