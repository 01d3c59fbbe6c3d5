"""What Grafana's own packages say of the dashboards: units, the types of the JSON, and the tables' transformations."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from typing import Any

import pytest

from pool_exporter.catalogue.vocabularies import VOCABULARIES
from pool_exporter.monitoring.dashboards import NAMES, Words, dashboards
from tests.monitoring.dashboards.drawing import table_of
from tests.monitoring.dashboards.grafana import Series, answer, choosing
from tests.monitoring.dashboards.linter import panels_of
from tests.monitoring.dashboards.node import NPM, need_modules, run_node
from tests.monitoring.dashboards.test_queries import Plays, Servers, whole, words_of

Json = dict[str, Any]
LINKED = re.findall(r"__data\.fields\.(\w+)", json.dumps(dashboards(Words())["fleet"]))
"""What the links of rows name: columns, by their headings."""
COMPILER = (
    "--noEmit",
    "--strict",
    "--skipLibCheck",
    "--moduleResolution",
    "bundler",
    "--module",
    "esnext",
    "--target",
    "es2022",
)


def every_dashboard() -> list[Json]:
    return [
        one
        for vocabulary in VOCABULARIES.values()
        for recorded in (False, True)
        for one in dashboards(Words(vocabulary, recorded=recorded)).values()
    ]


def units_in(dashboard: Json) -> set[str]:
    """Return the units of a dashboard: of panels, of single lines and columns, and of axes."""
    return set(re.findall(r'"unit": "([^"]+)"', json.dumps(dashboard))) | {
        one["value"]
        for panel in panels_of(dashboard)
        for override in panel["fieldConfig"]["overrides"]
        for one in override["properties"]
        if one["id"] == "unit"
    }


def test_grafana_knows_every_unit() -> None:
    """Each unit is one of those that `@grafana/data` has; `conn`, which sounds like one, is not."""
    known = set(json.loads(run_node("units.cjs")))
    assert len(known) > 250
    assert "conn" not in known
    used = set().union(*map(units_in, every_dashboard()))
    assert used - known == set()
    assert used >= {"s", "percentunit", "reqps", "short"}


def compiled(*made: Json) -> tuple[int, str]:
    """Return what TypeScript says of dashboards, by `@grafana/schema`'s types of their JSON."""
    need_modules()
    lines = [f"export const d{number}: DashboardJson = {json.dumps(one)};" for number, one in enumerate(made)]
    with tempfile.NamedTemporaryFile("w", dir=NPM, prefix="checked-", suffix=".ts") as file:
        file.write('import type { DashboardJson } from "./types";\n' + "\n".join(lines))
        file.flush()
        done = subprocess.run(
            ["node", "node_modules/typescript/bin/tsc", *COMPILER, os.path.basename(file.name)],
            cwd=NPM,
            capture_output=True,
            text=True,
            check=False,
        )
    return done.returncode, done.stdout


def test_the_json_has_grafanas_types() -> None:
    """Every dashboard is of the types that `@grafana/schema` gives to it and to each type of panel."""
    assert compiled(*every_dashboard()) == (0, "")


@pytest.mark.parametrize(
    ("panel_type", "path", "value"),
    [
        ("timeseries", "options.tooltip.mode", "many"),
        ("timeseries", "fieldConfig.defaults.custom.drawStyle", "hairs"),
        ("timeseries", "fieldConfig.defaults.unit", 42),
        ("heatmap", "options.color.steps", "many"),
        ("stat", "options.colorMode", "loud"),
        ("table", "options.footer", {}),
        ("state-timeline", "options.alignValue", "up"),
        ("state-timeline", "gridPos", {"x": 1}),
    ],
)
def test_another_type_is_noticed(panel_type: str, path: str, value: object) -> None:
    """A wrong word, a wrong type and an unknown option of a panel do not pass."""
    made = dashboards(Words())["pool" if panel_type == "heatmap" else "fleet"]
    *way, last = path.split(".")
    place: Json = next(one for one in made["panels"] if one["type"] == panel_type)
    for key in way:
        place = place[key]
    place[last] = value
    code, said = compiled(made)
    assert code != 0
    assert "error TS2" in said


def frames_of(panel: Json, answers: list[list[Series]]) -> list[Json]:
    """Return answers as the tables that Grafana's Prometheus data source makes of them."""
    frames = []
    for target, series in zip(panel["targets"], answers, strict=True):
        name = "Value" if len(answers) == 1 else f"Value #{target['refId']}"
        labels = sorted({label for one in series for label in one.labels})
        columns: dict[str, list[Any]] = {"Time": [0 for _ in series]}
        columns |= {label: [one.labels.get(label) for one in series] for label in labels}
        columns[name] = [one.highest for one in series]
        kinds = {"Time": "time", name: "number"}
        fields = [
            {"name": column, "type": kinds.get(column, "string"), "values": values, "config": {}}
            for column, values in columns.items()
        ]
        frames.append({"refId": target["refId"], "fields": fields})
    return frames


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_grafana_makes_the_tables_that_are_drawn_here(
    servers: Servers, plays: Plays, vocabulary: str, name: str
) -> None:
    """With Grafana's own transformations a table has the columns and the rows of the one in the pictures."""
    words = words_of(vocabulary)
    tables = [panel for panel in panels_of(dashboards(words)[name]) if panel["type"] == "table"]
    assert tables
    answers = [
        [answer(servers[vocabulary], target, choosing(words), *whole(plays)) for target in panel["targets"]]
        for panel in tables
    ]
    cases = [
        {"frames": frames_of(panel, found), "transformations": panel["transformations"]}
        for panel, found in zip(tables, answers, strict=True)
    ]
    for panel, found, made in zip(
        tables, answers, json.loads(run_node("tables.cjs", stdin=json.dumps(cases))), strict=True
    ):
        drawn = table_of(panel, found)
        assert [column["name"] for column in made] == [column["name"] for column in drawn["columns"]], panel[
            "title"
        ]
        theirs = {tuple(row) for row in zip(*(column["values"] for column in made), strict=True)}
        ours = {tuple(row.get(column["key"]) for column in drawn["columns"]) for row in drawn["rows"]}
        assert theirs == ours, panel["title"]
        linked = {column["name"]: (column["linked"], column["values"][0]) for column in made}
        for heading in LINKED if "Pool" in linked else ():
            text, value = linked[heading]
            assert text == value, (panel["title"], heading)
