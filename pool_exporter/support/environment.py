"""Environment variables that switch the library on and off."""

from __future__ import annotations

import os

DISABLING_VARIABLE = "POOL_EXPORTER_DISABLED"


def disabled() -> bool:
    """Tell whether the environment switches the library off (`POOL_EXPORTER_DISABLED=1`)."""
    return os.environ.get(DISABLING_VARIABLE, "").strip().lower() in ("1", "true", "yes", "on")


DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
