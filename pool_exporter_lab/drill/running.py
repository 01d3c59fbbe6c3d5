"""Run an application of a drill: its processes, its port, and requests to it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pool_exporter
from pool_exporter.support.environment import DIRECTORY_VARIABLE, DISABLING_VARIABLE
from pool_exporter_lab.demo.processes import spawn
from pool_exporter_lab.drill.asking import Unanswered, answers, ask, ask_json
from pool_exporter_lab.drill.processes import ended, listen, until_answering
from pool_exporter_lab.drill.settings import Settings

_SOURCE = str(Path(pool_exporter.__file__).resolve().parent.parent)


class Application:
    """An application of so many workers behind one port; it can stop and start again."""

    def __init__(self, settings: Settings, directory: Path, workers: int = 1) -> None:
        self.settings = settings
        self._directory = directory
        self._workers = workers
        self._listener = listen()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._starts = 0

    @property
    def port(self) -> int:
        """Return the port on loopback; it stays the same over a restart."""
        return int(self._listener.getsockname()[1])

    @property
    def log(self) -> Path:
        """Return the file that the processes write to."""
        return self._directory / f"application-{self.port}.log"

    async def start(self) -> None:
        """Start the workers; return when one of them answers."""
        descriptor = self._listener.fileno()
        command = (
            sys.executable,
            "-m",
            "pool_exporter_lab.drill.serve",
            self.settings.encoded(),
            str(descriptor),
        )
        environment = self._environment()
        for _ in range(self._workers):
            with self.log.open("ab") as output:
                process = spawn(command, output.fileno(), environment=environment, files=[descriptor])
            self._processes.append(process)
        await until_answering(
            "the application", self._processes[0], self.log, lambda: answers(self.port, "/metrics")
        )

    async def stop(self) -> None:
        """Stop all workers; whoever asks meanwhile waits, since the port stays open."""
        while self._processes:
            await ended(self._processes.pop())

    async def close(self) -> None:
        """Stop all workers and close the port."""
        await self.stop()
        self._listener.close()

    async def get(self, target: str) -> int:
        """Return the status that a GET of a route gives; 0 for no answer."""
        return await self._status("GET", target)

    async def post(self, target: str) -> int:
        """Return the status that a POST to a route gives; 0 for no answer."""
        return await self._status("POST", target)

    async def says(self) -> tuple[str, str]:
        """Return the status page's verdict on the pool: its state, and its words."""
        said = await ask_json(self.port, "/verdict")
        return said["state"], said["text"]

    async def _status(self, method: str, target: str) -> int:
        try:
            status, _ = await ask(self.port, method, target)
        except Unanswered:
            return 0
        return status

    def _environment(self) -> Mapping[str, str]:
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in {DISABLING_VARIABLE, DIRECTORY_VARIABLE}
        }
        path = os.environ.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join([_SOURCE, *([path] if path else [])])
        if self._workers > 1:
            self._starts += 1
            shared = self._directory / f"shared-{self.port}-{self._starts}"
            shared.mkdir()
            environment[DIRECTORY_VARIABLE] = str(shared)
        return environment
