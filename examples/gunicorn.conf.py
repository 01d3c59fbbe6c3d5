"""What gunicorn needs to know about prometheus_client's multi-process mode."""

import os
from typing import Any

from prometheus_client import multiprocess


def child_exit(server: Any, worker: Any) -> None:
    """Leave out the gauges of a worker that ended, as prometheus_client's documentation asks for."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        multiprocess.mark_process_dead(worker.pid)
