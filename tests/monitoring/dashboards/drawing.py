"""Turn a dashboard and Prometheus' answers into what a page can draw, by the panels' own settings.

It follows Grafana where it matters for the eye: legends, colours, units, thresholds, mappings, stacking,
and the transformations of the tables. It is not Grafana.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from tests.monitoring.dashboards.grafana import Choice, Json, Series, answer

STEP_SECONDS = 1


def drawn(dashboard: Json, address: str, choice: Choice, start: float, end: float) -> Json:
    """Return everything that the page needs of one dashboard."""
    times = [start + place * STEP_SECONDS for place in range(int((end - start) / STEP_SECONDS) + 1)]

    def ask(target: Json) -> list[Series]:
        return answer(address, target, choice, times[0], times[-1], step=STEP_SECONDS)

    panels = [_panel(panel, times, ask) for panel in dashboard["panels"]]
    return {
        "title": dashboard["title"],
        "description": dashboard["description"],
        "variables": {
            name: "All" if values is None else " + ".join(values) for name, values in choice.items()
        },
        "times": times,
        "marks": _marks(dashboard, ask),
        "panels": panels,
    }


def _marks(dashboard: Json, ask: Any) -> list[Json]:
    """Return starts of processes as moments, and alerts as spans."""
    marks = []
    for annotation in dashboard["annotations"]["list"]:
        if annotation["datasource"]["type"] != "prometheus":
            continue
        for series in ask(annotation["target"]):
            if annotation.get("useValueForTime"):
                moments = sorted({value / 1000 for value in series.values.values()})
                spans = [(moment, moment) for moment in moments]
            else:
                spans = [(min(series.values), max(series.values))]
            title = _legend(annotation["titleFormat"], series.labels)
            shown = {"color": annotation["iconColor"], "title": title, "kind": annotation["name"]}
            marks += [{"from": a, "to": b, **shown} for a, b in spans]
    return marks


def _panel(panel: Json, times: Sequence[float], ask: Any) -> Json:
    made: Json = {"type": panel["type"], "title": panel["title"], "place": panel["gridPos"]}
    if panel["type"] == "row":
        return made
    defaults = panel["fieldConfig"]["defaults"]
    made |= {
        "unit": defaults["unit"],
        "decimals": defaults.get("decimals"),
        "min": defaults.get("min"),
        "max": defaults.get("max"),
        "softMax": defaults.get("custom", {}).get("axisSoftMax"),
        "empty": defaults.get("noValue", "No data"),
        "steps": defaults.get("thresholds", {}).get("steps", []),
        "names": {
            key: value for one in defaults.get("mappings", []) for key, value in one["options"].items()
        },
    }
    if panel["type"] == "table":
        return made | table_of(panel, [ask(target) for target in panel["targets"]])
    custom = defaults.get("custom", {})
    made |= {
        "bars": custom.get("drawStyle") == "bars",
        "fill": custom.get("fillOpacity", 0),
        "named": panel["options"].get("textMode") == "value_and_name",
        "stacked": custom.get("stacking", {}).get("mode") == "normal",
        "legend": panel["options"].get("legend", {}).get("calcs", []),
        "series": [one for target in panel["targets"] for one in _lines(panel, target, times, ask)],
    }
    return made


def _lines(panel: Json, target: Json, times: Sequence[float], ask: Any) -> list[Json]:
    lines = []
    for series in ask(target):
        name = _legend(target["legendFormat"], series.labels)
        properties = _override(panel, name)
        values = (
            list(series.values.values()) if target["instant"] else [series.values.get(time) for time in times]
        )
        lines.append(
            {
                "name": name,
                "values": [value if value is not None and math.isfinite(value) else None for value in values],
                "color": properties.get("color", {}).get("fixedColor"),
                "dashed": "custom.lineStyle" in properties,
            }
        )
    if panel["type"] == "heatmap":
        lines.sort(key=lambda line: float(line["name"]))
    return lines


def table_of(panel: Json, answers: Sequence[Sequence[Series]]) -> Json:
    """Return rows as Grafana's `merge` makes them of each query's answer, and columns as `organize` does."""
    organized = next(one for one in panel["transformations"] if one["id"] == "organize")["options"]
    names = [set().union(*(one.labels for one in found)) for found in answers if found]
    shared = sorted(set.intersection(*names)) if names else []
    rows: dict[tuple[str | None, ...], Json] = {}
    for target, found in zip(panel["targets"], answers, strict=True):
        column = "Value" if len(panel["targets"]) == 1 else f"Value #{target['refId']}"
        for series in found:
            (value,) = series.values.values()
            row = rows.setdefault(tuple(series.labels.get(name) for name in shared), {})
            row |= {**series.labels, column: value}
    columns = []
    for name, _ in sorted(organized["indexByName"].items(), key=lambda one: one[1]):
        shown = organized["renameByName"].get(name, name)
        if not organized["excludeByName"].get(name):
            properties = _override(panel, shown)
            columns.append(
                {
                    "key": name,
                    "name": shown,
                    "unit": properties.get("unit"),
                    "steps": properties.get("thresholds", {}).get("steps"),
                    "link": "links" in properties,
                }
            )
    sort = panel["options"]["sortBy"][0]
    by = next(column["key"] for column in columns if column["name"] == sort["displayName"])
    ordered = sorted(rows.values(), key=lambda row: _sortable(row.get(by)), reverse=sort["desc"])
    return {"columns": columns, "rows": ordered}


def _sortable(value: Any) -> tuple[int, float, str]:
    if isinstance(value, str):
        return 0, 0.0, value
    return (1, value, "") if value is not None and value == value else (-1, 0.0, "")


def _override(panel: Json, name: str) -> Json:
    found = {}
    for override in panel["fieldConfig"]["overrides"]:
        if override["matcher"] == {"id": "byName", "options": name}:
            found |= {one["id"]: one["value"] for one in override["properties"]}
    return found


def _legend(pattern: str, labels: dict[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), pattern)
