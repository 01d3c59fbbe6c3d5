"""The committed dashboards are what the generator makes, and nothing of theirs is lost on Grafana's model."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from pool_exporter.catalogue.vocabularies import VOCABULARIES
from pool_exporter.monitoring.dashboards import (
    FROM_RECORDED,
    NAMES,
    TEMPLATES,
    Words,
    dashboard,
    dashboards,
    text_of,
)
from tests.support import ROOT

FILES = [(vocabulary, name) for vocabulary in VOCABULARIES for name in NAMES]

needs_the_sdk = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="the SDK that dashboards are generated with needs Python 3.11"
)


@needs_the_sdk
def test_generating_again_changes_nothing() -> None:
    """What is committed is what `python -m dashboards.generate` writes."""
    done = subprocess.run(
        [sys.executable, "-m", "dashboards.generate", "--check"],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), "run: python -m dashboards.generate"


@pytest.mark.parametrize(("vocabulary", "name"), FILES)
def test_a_committed_dashboard_is_its_template_spelled(vocabulary: str, name: str) -> None:
    """The command and the repository give the same, in each vocabulary."""
    made = dashboards(Words(VOCABULARIES[vocabulary]))[name]
    committed = ROOT / "dashboards" / vocabulary / f"{name}.json"
    assert committed.read_text("utf-8") == text_of(made)
    assert "<<" not in text_of(made)


@pytest.mark.parametrize("name", FROM_RECORDED)
@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_a_committed_dashboard_of_recorded_series_is_its_template_spelled(vocabulary: str, name: str) -> None:
    """It stands in a directory of its own, since it has the uid of the one that it takes the place of."""
    made = dashboard(name, Words(VOCABULARIES[vocabulary], recorded=True))
    committed = ROOT / "dashboards" / "recorded" / vocabulary / f"{name}.json"
    assert committed.read_text("utf-8") == text_of(made)
    assert "<<" not in text_of(made)
    assert made["uid"] == dashboard(name, Words(VOCABULARIES[vocabulary]))["uid"]


@needs_the_sdk
@pytest.mark.filterwarnings("ignore:Prefer using dashboardv2:DeprecationWarning")  # Grafana 12 reads both
@pytest.mark.parametrize("name", [*NAMES, *(f"recorded/{name}" for name in FROM_RECORDED)])
def test_grafanas_model_loses_no_key(name: str) -> None:
    """Read into the SDK's model and written again, a dashboard has every key that it had."""
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    template = json.loads((TEMPLATES / f"{name}.json").read_text("utf-8"))
    again = json.loads(json.dumps(Dashboard.from_json(template), cls=JSONEncoder))
    assert sorted(set(keys(template)) - set(keys(again))) == []


def keys(value: Any, path: str = "") -> list[str]:
    """Return the path of every key."""
    if isinstance(value, dict):
        return [path, *(one for key in value for one in keys(value[key], f"{path}.{key}"))]
    if isinstance(value, list):
        return [one for place, each in enumerate(value) for one in keys(each, f"{path}[{place}]")]
    return [path]
