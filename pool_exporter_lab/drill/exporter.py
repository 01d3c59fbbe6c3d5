"""Run the Prometheus community's postgres_exporter beside a server: its settings, max_connections among them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

from pool_exporter_lab.demo.postgresql import PORT, USER
from pool_exporter_lab.drill.asking import answers
from pool_exporter_lab.drill.postgresql import Server
from pool_exporter_lab.drill.processes import HOST, free_port, process_of, until_answering


@contextlib.asynccontextmanager
async def exporting(program: Path, server: Server) -> AsyncIterator[int]:
    """Run the exporter on a loopback port, which is yielded."""
    port = free_port()
    # Its default queries may take longer than a scrape of the drills; the settings are apart from them.
    command = (program, f"--web.listen-address={HOST}:{port}", "--disable-default-metrics")
    environment = {
        "LC_ALL": "C",
        "PATH": os.defpath,
        "DATA_SOURCE_NAME": f"host={server.directory} port={PORT} user={USER} dbname=postgres sslmode=disable",
    }
    log = server.directory.parent / "postgres-exporter.log"
    async with process_of(command, log, environment=environment) as process:
        await until_answering("prometheus-postgres-exporter", process, log, lambda: answers(port, "/metrics"))
        yield port
