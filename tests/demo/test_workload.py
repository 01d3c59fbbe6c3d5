"""The load's shape, which makes the pool fill soon and empty again."""

from __future__ import annotations

import random

from pool_exporter.demo.workload import (
    CREST_SECONDS,
    FEWEST_CLIENTS,
    MOST_CLIENTS,
    WAVE_SECONDS,
    choose,
    demand,
)


def test_the_demand_comes_in_waves() -> None:
    """It is highest at each crest and lowest half a wave later."""
    for wave in range(3):
        crest = CREST_SECONDS + wave * WAVE_SECONDS
        assert demand(crest) == MOST_CLIENTS
        assert demand(crest + WAVE_SECONDS / 2) == FEWEST_CLIENTS


def test_the_same_seed_makes_the_same_requests() -> None:
    """Two clients with one seed ask for the same things in the same order; another seed, others."""

    def requests(seed: int) -> list[tuple[str, str]]:
        dice = random.Random(seed)
        return [choose(dice) for _ in range(50)]

    assert requests(1) == requests(1)
    assert requests(1) != requests(2)
    assert {target.partition("?")[0] for _, target in requests(1)} == {"/orders", "/report"}
