"""Test the laws of counting on a real pool under drawn interleavings, cancellations and deaths.

`POOL_EXPORTER_EXAMPLES=n` runs n examples at random; without it the same few run each time.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.ledger.pool_machine import PoolMachine
from tests.postgres import PostgresServer

EXAMPLES = int(os.environ.get("POOL_EXPORTER_EXAMPLES", "0"))


def run(server: PostgresServer, *, restarts: bool, examples: int) -> None:
    """Run the machine on a server."""
    machine = type("Machine", (PoolMachine,), {"server": server, "restarts": restarts})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES or examples,
            phases=tuple(Phase) if EXAMPLES else (Phase.generate,),
            stateful_step_count=30,
            deadline=None,
            derandomize=not EXAMPLES,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.filterwarnings("ignore")  # the collector and the driver warn of each dropped connection
def test_the_laws_hold_whatever_the_application_and_the_database_do(postgres: PostgresServer) -> None:
    """Whatever is interleaved, laws 1 to 4 hold at every step and law 5 at every rest."""
    run(postgres, restarts=False, examples=30)


@pytest.mark.filterwarnings("ignore")
def test_the_laws_hold_over_restarts_of_the_server(own_postgres: PostgresServer) -> None:
    """The same holds where the server is restarted under the application."""
    run(own_postgres, restarts=True, examples=5)
