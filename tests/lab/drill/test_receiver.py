"""A whole drill whose receiver is slow, down or gone: it ends, with its verdict or with the receiver's name."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from pool_exporter_lab.drill.processes import free_port
from pool_exporter_lab.drill.progress import Progress
from pool_exporter_lab.drill.run import Options, run
from pool_exporter_lab.drill.scenarios.table import SCENARIOS
from pool_exporter_lab.drill.webhook import Receiver, receiving, url_of
from tests.support import need_tool

LEAK_COLLECTED = "SQLAlchemyPoolLeakCollected"


@pytest.fixture(autouse=True)
def _programs() -> None:
    need_tool("prometheus", "prometheus")
    need_tool("prometheus-alertmanager", "prometheus-alertmanager")


class Drill:
    """What a drill with some receiver ended with."""

    def __init__(self, receiver: Callable[[], contextlib.AbstractAsyncContextManager[Receiver]]) -> None:
        self.receivers: list[Receiver] = []
        self._receiver = receiver

    @contextlib.asynccontextmanager
    async def receiving(self) -> AsyncIterator[Receiver]:
        """Stand for the drill's own receiver."""
        async with self._receiver() as receiver:
            self.receivers.append(receiver)
            yield receiver

    def play(self, monkeypatch: pytest.MonkeyPatch) -> tuple[int, dict[str, Any]]:
        """Return the exit code and what came of the shortest fault."""
        monkeypatch.setattr("pool_exporter_lab.drill.run.receiving", self.receiving)
        output = io.StringIO()
        code = run(
            Options({"dropped": SCENARIOS["dropped"]}, 1, 1, True, 0, 0), output, Progress(io.StringIO())
        )
        (outcome,) = json.loads(output.getvalue())["outcomes"]
        return code, outcome


@contextlib.asynccontextmanager
async def refusing() -> AsyncIterator[Receiver]:
    """Answer 503 to everything."""
    async with receiving() as receiver:
        receiver.refuses = True
        yield receiver


@contextlib.asynccontextmanager
async def gone() -> AsyncIterator[Receiver]:
    """Let nobody listen."""
    yield Receiver(free_port())


def test_a_slow_receiver_does_not_change_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three seconds for each answer: the alert is received, at the time when it was sent, and nothing is missed."""
    drill = Drill(lambda: receiving(delay_seconds=3.0))
    code, outcome = drill.play(monkeypatch)
    assert (code, outcome["problems"], outcome["undelivered"]) == (0, [], [])
    assert [one["alert"] for one in outcome["fired"]] == [LEAK_COLLECTED]
    (receiver,) = drill.receivers
    assert receiver.taken >= 1


@pytest.mark.parametrize("receiver", [refusing, gone])
def test_a_receiver_that_is_down_is_named(
    monkeypatch: pytest.MonkeyPatch,
    receiver: Callable[[], contextlib.AbstractAsyncContextManager[Receiver]],
) -> None:
    """The drill ends by itself, fails, and says which alert fired and which receiver was not told of it."""
    drill = Drill(receiver)
    code, outcome = drill.play(monkeypatch)
    (one,) = drill.receivers
    assert code == 1
    assert outcome["undelivered"] == [LEAK_COLLECTED]
    assert outcome["fired"] == []
    (problem,) = outcome["problems"]
    said, turned, end = problem.rsplit(" ", 2)
    assert said == (
        f"{LEAK_COLLECTED} fired in Prometheus, and no notification of it came to the receiver {url_of(one)}, "
        "which took 0 and turned"
    )
    # Alertmanager went on trying until the servers were taken down.
    assert (int(turned) > 0, one.refused >= int(turned), end) == (one.refuses, True, "away")
