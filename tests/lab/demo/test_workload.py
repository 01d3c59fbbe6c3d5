"""The clients: how many there are, what they ask for, and how they read the answers."""

from __future__ import annotations

import asyncio
import random

import pytest

from pool_exporter_lab.demo.run import POOL_SIZE
from pool_exporter_lab.demo.scenarios import (
    CREST_SECONDS,
    FEWEST_CLIENTS,
    MAX_CLIENTS,
    SCENARIOS,
    WAVE_SECONDS,
    shop,
    waves,
)
from pool_exporter_lab.demo.workload import read_answer


def test_the_load_comes_in_waves() -> None:
    """It is highest at each crest and lowest half a wave later."""
    for wave in range(3):
        crest = CREST_SECONDS + wave * WAVE_SECONDS
        assert waves(crest) == MAX_CLIENTS
        assert waves(crest + WAVE_SECONDS / 2) == FEWEST_CLIENTS


def test_the_same_seed_makes_the_same_requests() -> None:
    """Two clients with one seed ask for the same things in the same order; another seed, others."""

    def requests(seed: int) -> list[tuple[str, str]]:
        dice = random.Random(seed)
        return [shop(dice) for _ in range(50)]

    assert requests(1) == requests(1)
    assert requests(1) != requests(2)
    assert {target.partition("?")[0] for _, target in requests(1)} == {"/orders", "/report"}


def test_no_healthy_crowd_can_fill_the_pool() -> None:
    """The healthy scenario has fewer clients than the pool keeps connections."""
    assert sum(crowd.clients for crowd in SCENARIOS["healthy"].crowds) < POOL_SIZE


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n",
    ],
    ids=["sized", "empty", "chunked"],
)
async def test_an_answer_is_read_to_its_end_and_not_beyond(answer: bytes) -> None:
    """After an answer of any kind the client stands at the beginning of the next one."""
    reader = asyncio.StreamReader()
    reader.feed_data(answer + b"next")
    reader.feed_eof()

    await read_answer(reader)

    assert await reader.read() == b"next"
