"""Make a table: a row for each set of labels, a column for each query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import table
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from tools.dashboards.panels import Builder, Line, Words, common_panel, link, property_of

Steps = Sequence[tuple[float | None, str]]
"""Thresholds, and the colours from there on."""


def rows(
    title: str,
    words: Words,
    lines: Sequence[Line],
    columns: Mapping[str, str],
    *,
    sort: str,
    empty: str,
    descending: bool = True,
    hidden: Sequence[str] = (),
    units: Mapping[str, str] | None = None,
    steps: Mapping[str, Steps] | None = None,
    pool: str | None = None,
) -> Builder:
    """Return a table: each line's legend is the name of its column.

    `columns` maps labels to the names of their columns, in this order and before the values; `units` and
    `steps` give some values' units and thresholds. `sort` is the column that is sorted by, the largest first
    if `descending`. `hidden` are columns that only bring their labels. `pool` is the column that links to the
    pool's own dashboards.
    """
    shape = PromQueryFormat.TABLE
    panel = common_panel(table.Panel(), title, words, "none", lines, shape=shape, instant=True).no_value(
        empty
    )
    names = {**columns, **_value_columns(lines)}
    panel.with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
    panel.with_transformation(_organized(names, hidden))
    panel.sort_by([common_builders.TableSortByFieldState().display_name(sort).desc(descending)])
    for name in names.values():
        properties = _properties((units or {}).get(name), (steps or {}).get(name), linked=name == pool)
        if properties:
            panel.override_by_name(name, properties)
    return panel


def _value_columns(lines: Sequence[Line]) -> dict[str, str]:
    """Return what Grafana calls the values of one query or of several, with their names here."""
    if len(lines) == 1:
        return {"Value": lines[0].legend}
    return {f"Value #{chr(ord('A') + place)}": line.legend for place, line in enumerate(lines)}


def _organized(names: Mapping[str, str], hidden: Sequence[str]) -> models.DataTransformerConfig:
    """Return what orders and names the columns, and leaves out the time and the hidden ones."""
    excluded = {"Time": True, **{name: True for name, column in names.items() if column in hidden}}
    order = {name: place for place, name in enumerate(names)}
    options = {"excludeByName": excluded, "indexByName": order, "renameByName": dict(names)}
    return models.DataTransformerConfig(id_val="organize", options=options)


def _properties(unit: str | None, steps: Steps | None, *, linked: bool) -> list[models.DynamicConfigValue]:
    """Return what a column has besides its name."""
    properties = [property_of("unit", unit)] if unit else []
    if steps:
        made = [{"value": value, "color": color} for value, color in steps]
        properties.append(property_of("thresholds", {"mode": "absolute", "steps": made}))
        properties.append(property_of("custom.cellOptions", {"type": "color-background", "mode": "basic"}))
    if linked:
        properties.append(property_of("links", _links_of_row()))
    return properties


def _links_of_row() -> list[dict[str, Any]]:
    names = ("row", "__data.fields.Job", "__data.fields.Pool")
    made = (link("This pool", "pool", *names), link("Hunt the leak", "leak-hunt", *names))
    return [{"title": one.title, "url": one.url} for one in (builder.build() for builder in made)]
