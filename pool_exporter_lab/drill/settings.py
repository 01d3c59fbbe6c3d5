"""Say how an application of a drill is set up, and pass that to its process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from pool_exporter_lab.drill.scale import POOL_TIMEOUT_SECONDS


@dataclass(frozen=True, slots=True)
class Settings:
    """Hold what the process of an application is told.

    - `name`: of its pool. `url`: of its database, as text.
    - `pool`: how the engine is made, as `create_async_engine` takes it.
    - `null_pool`: a connection for each use, none kept.
    - `connect`: more arguments for the driver.
    - `collects`: the garbage collector runs often, as in a busier process.
    - `fallible`: it brings listeners and a log filter of its own, which can be made to fail.
    """

    name: str
    url: str
    pool: Mapping[str, float | bool] = field(default_factory=dict)
    connect: Mapping[str, float | bool | str | None] = field(default_factory=dict)
    null_pool: bool = False
    collects: bool = False
    fallible: bool = False

    def encoded(self) -> str:
        """Return the settings as an argument of a process."""
        return json.dumps(asdict(self))


POOL: Mapping[str, float | bool] = {
    "pool_size": 5,
    "max_overflow": 5,
    "pool_timeout": POOL_TIMEOUT_SECONDS,
    "pool_pre_ping": True,
}
"""The pool of an application whose scenario says nothing else."""


def decoded(text: str) -> Settings:
    """Return the settings that `encoded()` gave."""
    return Settings(**json.loads(text))
