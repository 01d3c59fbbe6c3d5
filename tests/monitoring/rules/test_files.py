"""Check the rule files that the command prints: the committed ones, and what Prometheus says of them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pool_exporter.catalogue.vocabularies import VOCABULARIES
from pool_exporter.cli import main
from tests.support import ROOT, need_tool

ALERTS = ROOT / "alerts"
COMMITTED = sorted(ALERTS.glob("*.rules.yml"))


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
@pytest.mark.parametrize(("option", "suffix"), [((), ""), (("--opt-in",), ".opt-in")])
def test_the_command_prints_the_committed_files_by_default(
    vocabulary: str, option: tuple[str, ...], suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the installed command prints without further options is what the repository has."""
    assert main(["alerts", "--vocabulary", vocabulary, *option]) == 0
    assert capsys.readouterr().out == (ALERTS / f"{vocabulary}{suffix}.rules.yml").read_text()


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.name)
def test_prometheus_accepts_the_files(path: Path) -> None:
    """promtool finds no fault with a file."""
    promtool = need_tool("promtool", "prometheus")
    done = subprocess.run(
        [promtool, "check", "rules", str(path)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr + done.stdout
