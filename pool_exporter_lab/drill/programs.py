"""Find the programs that the drills run, and tell whether Prometheus is new enough for the rules."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from pool_exporter_lab.drill.errors import DrillError

PACKAGES: Mapping[str, str] = {
    "prometheus": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "pgbouncer": "pgbouncer",
    "prometheus-postgres-exporter": "prometheus-postgres-exporter",
}
"""The Debian package that brings each program."""
ALWAYS = ("prometheus", "prometheus-alertmanager")
OTHER_NAMES: Mapping[str, str] = {
    "prometheus-alertmanager": "alertmanager",
    "prometheus-postgres-exporter": "postgres_exporter",
}
"""What a program is called outside of Debian."""

OLDEST_PROMETHEUS = (2, 42)
"""The first release with `keep_firing_for`, which the rules use."""

_VERSION_SECONDS = 20.0
_MORE_PATHS = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def find_programs(names: Iterable[str]) -> dict[str, Path]:
    """Return where each program is. Raises `DrillError` that names all missing ones and their packages."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_MORE_PATHS))
    found = {name: _which(name, path) for name in names}
    missing = [name for name, program in found.items() if program is None]
    if missing:
        packages = " ".join(PACKAGES[name] for name in missing)
        raise DrillError(
            f"{', '.join(missing)} not found in PATH; on Debian: apt-get install {packages}", exit_code=1
        )
    return {name: program for name, program in found.items() if program is not None}


def check_prometheus(program: Path) -> str:
    """Return Prometheus's version; raise `DrillError` if it is older than the rules need, or says none."""
    try:
        done = subprocess.run(  # noqa: S603 - found in PATH by its name
            [program, "--version"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_VERSION_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DrillError(f"{program} --version failed: {error}") from error
    version = parse_version(done.stdout + done.stderr)
    if version is None:
        said = (done.stdout + done.stderr).strip().splitlines()
        raise DrillError(
            f"{program} --version gave no version of Prometheus, but {(said or ['nothing'])[0]!r}; "
            "on Debian: apt-get install prometheus"
        )
    text = ".".join(map(str, version))
    if version[:2] < OLDEST_PROMETHEUS:
        needed = ".".join(map(str, OLDEST_PROMETHEUS))
        raise DrillError(
            f"{program} is Prometheus {text}, older than {needed}, the first that knows keep_firing_for, "
            f"which the rules use; install Prometheus {needed} or newer"
        )
    return text


def parse_version(text: str) -> tuple[int, int, int] | None:
    """Return the numbers in what `prometheus --version` printed, None if they are not there."""
    found = re.search(r"^prometheus, version (\d+)\.(\d+)\.(\d+)", text, re.MULTILINE)
    if found is None:
        return None
    major, minor, patch = map(int, found.groups())
    return major, minor, patch


def _which(name: str, path: str) -> Path | None:
    for candidate in (name, OTHER_NAMES.get(name)):
        program = shutil.which(candidate, path=path) if candidate else None
        if program is not None:
            return Path(program)
    return None
