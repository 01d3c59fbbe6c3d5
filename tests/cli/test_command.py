"""What the command does with its output, whichever the subcommand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pool_exporter.cli.output import OutputLostError, watched_output

PRINTING = [
    ["--help"],
    ["demo", "--help"],
    ["alerts"],
    ["alerts", "--list"],
    ["cost", "--pods", "2", "--pools", "3"],
    ["dashboards", "--out", "dashboards"],
]


def run(directory: Path, output: int, *arguments: str, buffered: bool = True) -> tuple[int, str]:
    """Run the command with its output into a file; return its exit code and what it said on stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "pool_exporter", *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONUNBUFFERED": "" if buffered else "1"},
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


on_a_full_device = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device here")


@on_a_full_device
@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
def test_output_that_cannot_be_written_is_an_error(
    tmp_path: Path, arguments: list[str], buffered: bool
) -> None:
    """On a full disk one line on stderr says so, and the exit code is 1."""
    with Path("/dev/full").open("w") as full:
        assert run(tmp_path, full.fileno(), *arguments, buffered=buffered) == (
            1,
            "pool-exporter: error: cannot write the output (No space left on device); "
            "send it where there is room\n",
        )


@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
def test_a_reader_that_has_left_is_no_failure_to_tell_of(tmp_path: Path, arguments: list[str]) -> None:
    """After `| head` nothing is said."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        assert run(tmp_path, writing, *arguments) == (1, "")
    finally:
        os.close(writing)


def test_another_failure_is_not_taken_for_one_of_the_output() -> None:
    """What else goes wrong in the system stays what it is."""
    with pytest.raises(FileNotFoundError), watched_output():
        Path("/nowhere/at/all").read_text()


@on_a_full_device
def test_the_reason_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what the system said."""
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(OutputLostError, match="No space left on device"), watched_output():
            print("lost", flush=True)
