"""Find what is wrong with a dashboard: every rule of the checklist, on every type of panel."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from pool_exporter.monitoring.dashboards import Words
from tests.monitoring.dashboards.expressions import complaints, most_series, recorded, selected

Json = dict[str, Any]
WIDTH = 24
MAX_LINES = 5
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
BUILT_IN = re.compile(r"__\w+")
_VARIABLE = re.compile(r"\$(?:\{(\w+)[^}]*\}|(\w+))")


def lint(dashboard: Json, words: Words) -> list[str]:
    """Return the complaints about a dashboard that is spelled in `words`, each with its place."""
    return [*_of_dashboard(dashboard, words), *_of_variables(dashboard, words), *_of_panels(dashboard, words)]


def panels_of(dashboard: Json) -> list[Json]:
    """Return the panels of a dashboard without its headings."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def _of_dashboard(dashboard: Json, words: Words) -> Iterator[str]:
    if dashboard.get("editable") is not False:
        yield "dashboard: editable is not false"
    if not re.fullmatch(r"sqlalchemy-pool(-[a-z-]{1,24})?", dashboard.get("uid", "")):
        yield "dashboard: uid is not a stable one"
    if not dashboard.get("description"):
        yield "dashboard: has no description"
    tags = {"sqlalchemy-pool", words.vocabulary.name}
    if set(dashboard.get("tags", ())) != tags:
        yield f"dashboard: tags are not {sorted(tags)}"
    if not any(
        link["type"] == "dashboards"
        and set(link["tags"]) == tags
        and link["keepTime"]
        and link["includeVars"]
        for link in dashboard.get("links", ())
    ):
        yield "dashboard: no links to the set that keep time and variables"
    annotations = {one["name"]: one for one in dashboard["annotations"]["list"]}
    for name in ("Alerts", "Restarts", "Deploys"):
        if name not in annotations:
            yield f"dashboard: no annotations for {name}"
    for name, annotation in annotations.items():
        if "expr" in annotation:
            yield f"annotation {name}: has expr outside of its target"
        target = annotation.get("target", {})
        if annotation["datasource"]["type"] == "prometheus":
            yield from (f"annotation {name}: {what}" for what in complaints(target.get("expr", ""), words))
            if annotation["datasource"] != SOURCE or target.get("datasource") != SOURCE:
                yield f"annotation {name}: another data source than $datasource"


def _of_variables(dashboard: Json, words: Words) -> Iterator[str]:
    variables = {one["name"]: one for one in dashboard["templating"]["list"]}
    for name, kind in (("datasource", "prometheus"), ("traces", "tempo")):
        if variables.get(name, {}).get("type") != "datasource" or variables[name]["query"] != kind:
            yield f"variable {name}: is not a choice of {kind}"
    earlier: list[str] = []
    for name in words.variables:
        variable = variables.get(name)
        if variable is None:
            yield f"variable {name}: missing"
            continue
        wanted = {
            "type": "query",
            "datasource": SOURCE,
            "multi": True,
            "includeAll": True,
            "allValue": ".+",
            "refresh": 2,
            "sort": 1,
        }
        for key, value in wanted.items():
            if variable.get(key) != value:
                yield f"variable {name}: {key} is {variable.get(key)!r}, not {value!r}"
        found = re.fullmatch(r"label_values\((.+), \w+\)", variable["query"])
        asked = selected(found[1]) if found else set()
        if words.recorded and not asked <= recorded(words).keys():
            yield f"variable {name}: asks {sorted(asked)}, which is not recorded"
        if variable["query"] != variable["definition"]:
            yield f"variable {name}: definition is another than the query"
        for other in earlier:
            if f'=~"${other}"' not in variable["query"]:
                yield f"variable {name}: not narrowed by {other}"
        earlier.append(name)
    text = str([dashboard["panels"], dashboard["links"], dashboard["annotations"], *variables.values()])
    used = {found[1] or found[2] for found in _VARIABLE.finditer(text)}
    for name in used - variables.keys():
        if not BUILT_IN.fullmatch(name):
            yield f"variable {name}: used and not there"
    for name in variables.keys() - used:
        yield f"variable {name}: never used"


def _of_panels(dashboard: Json, words: Words) -> Iterator[str]:
    panels = panels_of(dashboard)
    for what in ("id", "title"):
        for value, number in Counter(panel.get(what) for panel in dashboard["panels"]).items():
            if number > 1 or not value:
                yield f"panels: {number} with {what} {value!r}"
    yield from _of_places(dashboard["panels"])
    for panel in panels:
        yield from (f"panel {panel.get('title')!r}: {what}" for what in _of_panel(panel, words))


def _of_places(panels: list[Json]) -> Iterator[str]:
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        if cells & taken or place["x"] + place["w"] > WIDTH:
            yield f"panel {panel['title']!r}: lies over another or sticks out"
        taken |= cells


def _of_panel(panel: Json, words: Words) -> Iterator[str]:
    description = panel.get("description", "")
    if not re.search(r"^.+\n\n\*\*Good:\*\* .+\n\n\*\*If not:\*\* .+", description):
        yield "the description does not say what it shows, what is good, and what to do if not"
    defaults = panel["fieldConfig"]["defaults"]
    if not defaults.get("unit"):
        yield "no unit"
    if panel.get("datasource") != SOURCE:
        yield "another data source than $datasource"
    targets = panel.get("targets", [])
    if not targets:
        yield "no query"
    for number, target in enumerate(targets):
        if target.get("refId") != chr(ord("A") + number):
            yield f"query {number}: refId is {target.get('refId')!r}"
        if target.get("datasource") != SOURCE:
            yield f"query {number}: another data source than $datasource"
        if not target.get("legendFormat"):
            yield f"query {number}: no legend"
        if "[$__range])" in target.get("expr", "") and not target.get("instant"):
            yield f"query {number}: counts over all of the time shown at every moment of it"
        yield from (f"query {number}: {what}" for what in complaints(target.get("expr", ""), words))
    for link in [*panel.get("links", ()), *defaults.get("links", ()), *_override_links(panel)]:
        if "placement" in link:
            yield f"link {link['title']!r}: has a placement"
        yield from _of_link(link)
    yield from _OF_TYPE[panel["type"]](panel)


def _override_links(panel: Json) -> list[Json]:
    properties = [one for override in panel["fieldConfig"]["overrides"] for one in override["properties"]]
    return [link for one in properties if one["id"] == "links" for link in one["value"]]


def _of_link(link: Json) -> Iterator[str]:
    if re.search(r'["<>\s]', link["url"]):
        yield f"link {link['title']!r}: has what no URL may have"
    if link["url"].startswith("/explore"):
        if "${traces}" not in link["url"]:
            yield f"link {link['title']!r}: not to $traces"
        return
    for part in ("${datasource:queryparam}", "var-job=", "var-pool=", "${__url_time_range}"):
        if part not in link["url"]:
            yield f"link {link['title']!r}: does not carry {part}"
    if len(re.findall(r"var-(?:job|pool)=\$\{[\w.<>]+:percentencode\}", link["url"])) != 2:
        yield f"link {link['title']!r}: job and pool are not escaped"


def _of_graph(panel: Json) -> Iterator[str]:
    defaults, options = panel["fieldConfig"]["defaults"], panel["options"]
    yield from _of_tooltip(panel)
    if defaults.get("min") != 0:
        yield "the axis does not begin at 0"
    if defaults["unit"].startswith("percent") and defaults.get("max") != 1:
        yield "the percent axis is not fixed"
    if not options["legend"]["showLegend"]:
        yield "no legend"
    if sum(_most_series(target) for target in panel["targets"]) > MAX_LINES:
        yield f"more than {MAX_LINES} lines"
    custom = defaults["custom"]
    if custom.get("drawStyle") == "bars":
        if custom.get("stacking", {}).get("mode") != "normal":
            yield "bars are not stacked"
        if not defaults.get("noValue"):
            yield "bars do not say what it means when there are none"
    for override in panel["fieldConfig"]["overrides"]:
        properties = {one["id"]: one["value"] for one in override["properties"]}
        if "custom.lineStyle" in properties:
            if properties.get("custom.fillOpacity") != 0:
                yield f"the dashed {override['matcher']['options']} is filled"
            if properties.get("custom.stacking", {}).get("mode") != "none":
                yield f"the dashed {override['matcher']['options']} is stacked"
    for target in panel["targets"]:
        of_rules = "job_pool:" in target["expr"]
        if of_rules and target["exemplar"]:
            yield f"{target['legendFormat']}: what is recorded has no exemplars"
        if (
            "histogram_quantile" in target["expr"]
            and not target["exemplar"]
            and not of_rules
            and "stale" not in target["expr"]
        ):
            yield f"{target['legendFormat']}: a duration without exemplars"


def _most_series(target: Json) -> float:
    try:
        return most_series(target["expr"])
    except ValueError:
        return 0


def _of_tooltip(panel: Json) -> Iterator[str]:
    tooltip = panel["options"]["tooltip"]
    if (tooltip["mode"], tooltip["sort"]) != ("multi", "desc"):
        yield "the tooltip does not show all, the largest first"


def _of_heatmap(panel: Json) -> Iterator[str]:
    color = panel["options"]["color"]
    if not (color["steps"] and color["exponent"] and color["fill"]):
        yield "the colours have no steps, exponent or fill"
    if panel["options"]["yAxis"].get("unit") != "s":
        yield "the axis is not in seconds"
    for target in panel["targets"]:
        if target["format"] != "heatmap" or not target["exemplar"]:
            yield "the query is not for a heatmap with exemplars"


def _of_stat(panel: Json) -> Iterator[str]:
    if len(panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", ())) < 2:
        yield "a number without thresholds"
    if not panel["fieldConfig"]["defaults"].get("noValue"):
        yield "no words for no value"
    if sum(_most_series(target) for target in panel["targets"]) > 1:
        yield "more than one number"
    if not all(target["instant"] for target in panel["targets"]):
        yield "not as it is now"


def _of_table(panel: Json) -> Iterator[str]:
    columns = next(one for one in panel["transformations"] if one["id"] == "organize")["options"][
        "renameByName"
    ]
    if (
        not panel["options"].get("sortBy")
        or panel["options"]["sortBy"][0]["displayName"] not in columns.values()
    ):
        yield "not sorted by a column"
    if not panel["fieldConfig"]["defaults"].get("noValue"):
        yield "no words for no row"
    for target in panel["targets"]:
        if not target["instant"] or target["format"] != "table":
            yield "a query that is not instant, as a table"
    if "Pool" in columns.values() and not _override_links(panel):
        yield "rows of pools do not link down"


def _of_states(panel: Json) -> Iterator[str]:
    yield from _of_tooltip(panel)
    if not panel["fieldConfig"]["defaults"].get("mappings"):
        yield "states without names"
    if not panel["fieldConfig"]["defaults"].get("links"):
        yield "states do not link down"


_OF_TYPE = {
    "timeseries": _of_graph,
    "heatmap": _of_heatmap,
    "stat": _of_stat,
    "table": _of_table,
    "state-timeline": _of_states,
}
