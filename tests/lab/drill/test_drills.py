"""Drills as a user runs them: a leak, a load and an innocent one, with every server real."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from pool_exporter_lab.drill.monitoring import alertmanager
from pool_exporter_lab.drill.programs import find_programs
from pool_exporter_lab.drill.webhook import receiving, url_of
from tests.lab.demo.running import Demo, a_demo, assert_nothing_left, ending, until
from tests.support import need_tool

DEADLINE_SECONDS = 180.0


@pytest.fixture(autouse=True)
def _programs() -> None:
    need_tool("prometheus", "prometheus")
    need_tool("prometheus-alertmanager", "prometheus-alertmanager")


def start(place: Demo, *arguments: str) -> subprocess.Popen[str]:
    """Start `python -m pool_exporter drill` with its temporary files in a directory of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "pool_exporter", "drill", *arguments],
        env={**os.environ, "TMPDIR": str(place.directory), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_drills_fire_what_they_expect_and_leave_nothing() -> None:
    """A leak, a load and an innocent one at once: exit code 0, each fires its own, no process or file is left."""
    fired = {
        "dropped": {"SQLAlchemyPoolLeakCollected"},
        "exhausted-by-load": {"SQLAlchemyPoolExhaustedByLoad"},
        "cold-start": set[str](),
    }
    with a_demo() as place, ending(start(place, *fired, "--json")) as process:
        stdout, stderr = process.communicate(timeout=DEADLINE_SECONDS)
        first, *lines = stderr.splitlines()
        assert first.startswith("playing dropped, exhausted-by-load, cold-start; that takes about ")
        told = {f"{name}: {news}" for name in fired for news in ("it begins", "as expected")}
        assert (process.returncode, set(lines), len(lines)) == (0, told, len(told))
        assert_nothing_left(place)
    matrix = json.loads(stdout)
    assert (matrix["factor"], matrix["scrape_seconds"], matrix["passed"]) == (30.0, 0.5, True)
    assert [outcome["scenario"] for outcome in matrix["outcomes"]] == list(fired)
    for outcome in matrix["outcomes"]:
        assert outcome["problems"] == []
        assert outcome["acquires"] > 20
        times = {one["alert"]: one["seconds"] for one in outcome["fired"]}
        assert fired[outcome["scenario"]] <= times.keys()
        assert all(times[alert] > 0 for alert in fired[outcome["scenario"]])


def test_a_signal_ends_a_drill_and_leaves_nothing() -> None:
    """SIGTERM while servers and applications run ends all of them."""
    with a_demo() as place, ending(start(place, "listener")) as process:
        until(lambda: place.find("*/targets/listener.json"), "the application is scraped")
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 128 + signal.SIGTERM
        first, *lines = stderr.splitlines()
        assert first.startswith("playing listener; that takes about ")
        assert set(lines) <= {"listener: it begins"}
        assert_nothing_left(place)


async def post_alert(port: int) -> None:
    """Give Alertmanager an alert that fires."""
    body = json.dumps([{"labels": {"alertname": "A", "job": "here", "severity": "warning"}}]).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /api/v2/alerts HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    assert b" 200 " in (await reader.read(-1)).splitlines()[0]
    writer.close()


async def test_a_slow_receiver_gets_its_notification() -> None:
    """A receiver that takes a second over each answer is told once, at the time when it was told."""
    program = find_programs(["prometheus-alertmanager"])["prometheus-alertmanager"]
    with a_demo() as place:
        async with (
            receiving(delay_seconds=1.0) as receiver,
            alertmanager(program, place.directory, url_of(receiver)) as port,
        ):
            before = time.monotonic()
            await post_alert(port)
            assert await receiver.until(lambda: bool(receiver.notices), 30.0)
            (notice,) = receiver.notices
            assert (notice.alert, notice.subject, notice.firing) == ("A", "here", True)
            assert before <= notice.received <= time.monotonic() - 1.0


async def test_a_receiver_that_was_down_gets_its_notification_when_it_is_back() -> None:
    """Alertmanager tries again; meanwhile nothing is said to have come."""
    program = find_programs(["prometheus-alertmanager"])["prometheus-alertmanager"]
    with a_demo() as place:
        async with receiving() as receiver:
            url = url_of(receiver)
            receiver.refuses = True
            async with alertmanager(program, place.directory, url) as port:
                await post_alert(port)
                assert await receiver.until(lambda: receiver.refused >= 1, 30.0)
                assert receiver.notices == []
                receiver.refuses = False
                assert await receiver.until(lambda: bool(receiver.notices), 60.0)
                assert receiver.notices[0].alert == "A"
