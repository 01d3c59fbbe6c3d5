"""List all scenarios, the faults first."""

from __future__ import annotations

from collections.abc import Mapping

from pool_exporter_lab.drill.scenario import Scenario
from pool_exporter_lab.drill.scenarios.bookkeeping import BOOKKEEPING, NEIGHBOURS
from pool_exporter_lab.drill.scenarios.database import DATABASE
from pool_exporter_lab.drill.scenarios.innocent import INNOCENT
from pool_exporter_lab.drill.scenarios.leaks import LEAKS
from pool_exporter_lab.drill.scenarios.load import LOAD
from pool_exporter_lab.drill.scenarios.outages import OUTAGES
from pool_exporter_lab.drill.scenarios.pooler import POOLER

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
