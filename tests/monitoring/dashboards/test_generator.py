"""The committed dashboards are what the generator makes, and nothing of theirs is lost on Grafana's model."""

from __future__ import annotations

import copy
import json
import re
import sys
from typing import Any

import pytest

from pool_exporter.catalogue.vocabularies import VOCABULARIES
from pool_exporter.monitoring.dashboards import (
    DIRECTORY,
    FROM_RECORDED,
    NAMES,
    Words,
    dashboard,
    text_of,
)

needs_the_sdk = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="the SDK that dashboards are generated with needs Python 3.11"
)


WORDS = [
    {},
    {"selector": 'env=~"prod.+", team!="x"'},
    {"group_by": ("cluster", "namespace", "job", "pool")},
    {"group_by": ("job", "pool", "cluster"), "selector": 'cluster="a"'},
    {
        "group_by": ("env", "job", "pool"),
        "selector": 'env=~"job, pool|{{job}} {{pool}}|label_values(x, y)|\\\\1"',
    },
    {"alert_labels": (("team", 'a "b" \\ c'),)},
]


@needs_the_sdk
@pytest.mark.filterwarnings("ignore:Prefer using dashboardv2:DeprecationWarning")  # Grafana 12 reads both
@pytest.mark.parametrize("vocabulary", VOCABULARIES)
@pytest.mark.parametrize("words", WORDS, ids=repr)
@pytest.mark.parametrize("file", [*NAMES, *(f"recorded-{name}" for name in FROM_RECORDED)])
def test_a_committed_dashboard_that_is_fitted_is_as_if_made_so(
    file: str, words: dict[str, Any], vocabulary: str
) -> None:
    """What the package makes of a committed dashboard is what the generator makes with the same words."""
    from tools.dashboards import generate
    from tools.dashboards.spelling import spelled

    recorded = file.startswith("recorded-")
    wanted = Words(VOCABULARIES[vocabulary], recorded=recorded, **words)
    template = copy.deepcopy(generate.made()[file])
    variables = template["templating"]["list"]
    place = next(index for index, variable in enumerate(variables) if variable["name"] == "job")
    for label in reversed(wanted.extra):
        query = variables[place]["query"].replace("before job>>, job)", f"before {label}>>, {label})")
        query = re.sub(r"before \w+>>, \w+\)", f"before {label}>>, {label})", query)
        variables.insert(
            place, {**variables[place], "name": label, "label": label, "definition": query, "query": query}
        )
    made = dashboard(file.removeprefix("recorded-"), wanted)
    assert text_of(made) == text_of(spelled(template, wanted))
    assert "<<" not in text_of(made)


@pytest.mark.parametrize("name", FROM_RECORDED)
@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_a_dashboard_of_recorded_series_takes_the_place_of_another(vocabulary: str, name: str) -> None:
    """It has the uid of the one that reads scraped series."""
    one, other = (dashboard(name, Words(VOCABULARIES[vocabulary], recorded=flag)) for flag in (True, False))
    assert one["uid"] == other["uid"]
    assert one != other


@needs_the_sdk
@pytest.mark.filterwarnings("ignore:Prefer using dashboardv2:DeprecationWarning")  # Grafana 12 reads both
@pytest.mark.parametrize("name", [*NAMES, *(f"recorded-{name}" for name in FROM_RECORDED)])
def test_grafanas_model_loses_no_key(name: str) -> None:
    """Read into the SDK's model and written again, a dashboard has every key that it had."""
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    committed = json.loads((DIRECTORY / "prometheus" / f"{name}.json").read_text("utf-8"))
    again = json.loads(json.dumps(Dashboard.from_json(committed), cls=JSONEncoder))
    assert sorted(set(keys(committed)) - set(keys(again))) == []


def keys(value: Any, path: str = "") -> list[str]:
    """Return the path of every key."""
    if isinstance(value, dict):
        return [path, *(one for key in value for one in keys(value[key], f"{path}.{key}"))]
    if isinstance(value, list):
        return [one for place, each in enumerate(value) for one in keys(each, f"{path}[{place}]")]
    return [path]
