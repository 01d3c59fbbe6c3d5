"""The exporter that gives the drills max_connections, as a real one has it."""

from __future__ import annotations

from pool_exporter.monitoring.rules.checking import DATABASE_LIMIT
from pool_exporter_lab.drill.asking import ask
from pool_exporter_lab.drill.exporter import exporting
from pool_exporter_lab.drill.postgresql import server
from pool_exporter_lab.drill.programs import find_programs
from tests.support import need_tool


async def test_the_exporter_gives_the_limit_by_the_name_that_the_rules_know() -> None:
    """What the rules take for the limit by default is a series of postgres_exporter, and the server's own number."""
    need_tool("prometheus-postgres-exporter", "prometheus-postgres-exporter")
    program = find_programs(["prometheus-postgres-exporter"])["prometheus-postgres-exporter"]
    async with server("max_connections=123") as postgresql, exporting(program, postgresql) as port:
        status, body = await ask(port, "GET", "/metrics")
    assert status == 200
    lines = [line for line in body.decode().splitlines() if line.startswith(DATABASE_LIMIT)]
    assert [line.split()[-1] for line in lines] == ["123"]
