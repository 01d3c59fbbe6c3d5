"""Check the public interface with the strict type checker, as an application's own run would."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pool_exporter

SAMPLE = Path(__file__).with_name("typed_api.py")


def check(sample: Path, cache: Path) -> tuple[int, str]:
    """Type-check one file with nobody's configuration but strictness; return exit code and output."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-error-summary"),
            *("--python-version=3.10", "--follow-imports=silent", f"--cache-dir={cache}", str(sample)),
        ],
        check=False,
        capture_output=True,
        text=True,
        cwd=sample.parent,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_package_says_that_it_is_typed() -> None:
    """A type checker believes the annotations only where the marker file is shipped."""
    assert (Path(pool_exporter.__file__).parent / "py.typed").is_file()


def test_an_application_that_uses_everything_type_checks(tmp_path: Path) -> None:
    """Every public call has the types that the sample asserts, and refuses what it should."""
    assert check(SAMPLE, tmp_path / "cache") == (0, "")
