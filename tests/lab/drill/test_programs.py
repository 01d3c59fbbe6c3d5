"""Programs that are missing or too old are named, with the remedy, before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from pool_exporter.cli import main
from pool_exporter_lab.drill.errors import DrillError
from pool_exporter_lab.drill.programs import check_prometheus, find_programs, parse_version

PRINTED = "prometheus, version {} (branch: debian/sid, revision: {}+ds-5)\n  build user: team\n"


def program(directory: Path, name: str, output: str) -> Path:
    """Make a program that prints something."""
    path = directory / name
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{output}\nEND\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def empty_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Let nothing be found but what is in a directory."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("pool_exporter_lab.drill.programs._MORE_PATHS", ())
    return tmp_path


def test_all_missing_programs_are_named_with_their_packages(empty_path: Path) -> None:
    """One message names every missing program and one apt-get line."""
    with pytest.raises(DrillError) as raised:
        find_programs(["prometheus", "prometheus-alertmanager", "pgbouncer"])
    assert str(raised.value) == (
        "prometheus, prometheus-alertmanager, pgbouncer not found in PATH; "
        "on Debian: apt-get install prometheus prometheus-alertmanager pgbouncer"
    )


def test_a_missing_program_ends_the_command(empty_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`pool-exporter drill` says it in one line and starts nothing."""
    program(empty_path, "prometheus", PRINTED.format("2.42.0", "2.42.0"))
    code = main(["drill", "fast-leak"])
    captured = capsys.readouterr()
    assert (code, captured.out) == (1, "")
    assert "prometheus-alertmanager not found in PATH" in captured.err
    assert "apt-get install prometheus-alertmanager" in captured.err


def test_alertmanager_has_another_name_elsewhere(empty_path: Path) -> None:
    """Outside of Debian the program is called alertmanager."""
    path = program(empty_path, "alertmanager", "")
    assert find_programs(["prometheus-alertmanager"]) == {"prometheus-alertmanager": path}


@pytest.mark.parametrize("old", ["2.24.1", "2.41.0", "2.9.0", "1.99.0"])
def test_an_older_prometheus_is_refused(tmp_path: Path, old: str) -> None:
    """Below 2.42 the version that was read is said, and what the rules need."""
    path = program(tmp_path, "prometheus", PRINTED.format(old, old))
    with pytest.raises(DrillError) as raised:
        check_prometheus(path)
    assert f"is Prometheus {old}, older than 2.42" in str(raised.value)
    assert "keep_firing_for" in str(raised.value)


@pytest.mark.parametrize("new", ["2.42.0", "2.53.1", "3.0.0"])
def test_a_newer_prometheus_is_taken(tmp_path: Path, new: str) -> None:
    """2.42 and later will do, 3 included."""
    assert check_prometheus(program(tmp_path, "prometheus", PRINTED.format(new, new))) == new


def test_an_old_prometheus_ends_the_command(empty_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`pool-exporter drill` starts nothing with it."""
    program(empty_path, "prometheus", PRINTED.format("2.24.1", "2.24.1"))
    program(empty_path, "prometheus-alertmanager", "")
    (empty_path / "cat").symlink_to("/bin/cat")
    code = main(["drill", "fast-leak"])
    assert code == 1
    assert "is Prometheus 2.24.1, older than 2.42" in capsys.readouterr().err


def test_a_program_that_is_no_prometheus_is_named(tmp_path: Path) -> None:
    """What it printed instead of a version is said."""
    path = program(tmp_path, "prometheus", "hello")
    with pytest.raises(DrillError, match="gave no version of Prometheus, but 'hello'"):
        check_prometheus(path)


def test_a_version_is_numbers() -> None:
    """2.9 is older than 2.42, whatever their letters say."""
    assert parse_version(PRINTED.format("2.9.1", "2.9.1")) == (2, 9, 1)
    assert (2, 9) < (2, 42)
    assert parse_version("level=info version 2.42.0") is None
