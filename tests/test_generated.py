"""Check that generated files are as their generators make them now."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT
from tools.documents import rewritten


def test_generating_again_changes_nothing() -> None:
    """Tables, rules, dashboards, deployment files and the picture of the rooms are up to date."""
    done = subprocess.run(
        [sys.executable, "-m", "tools.generate", "--check"],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), "run: make generate"


@pytest.mark.filterwarnings("ignore:Prefer using dashboardv2:DeprecationWarning")  # Grafana 12 reads both
def test_a_file_that_is_not_as_made_is_stale(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file with another text is stale, and so is one that is missing."""
    from tools import generate

    other, missing = tmp_path / "other", tmp_path / "missing"
    other.write_text("old")

    class Generator:
        @staticmethod
        def files() -> dict[Path, str]:
            return {other: "new", missing: "new"}

    monkeypatch.setattr(generate, "GENERATORS", [Generator])
    assert generate.stale() == {other: "new", missing: "new"}


def test_a_document_without_its_marks_is_an_error(tmp_path: Path) -> None:
    """Nothing is written where a generated part has no place."""
    document = tmp_path / "document.md"
    document.write_text("<!-- generated: a -->\nold\n<!-- end: a -->\n")
    assert rewritten(document, {"a": "new"}) == "<!-- generated: a -->\nnew\n<!-- end: a -->\n"
    with pytest.raises(ValueError, match=r"document\.md has no '<!-- generated: b -->'"):
        rewritten(document, {"b": "new"})
