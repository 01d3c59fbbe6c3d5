"""No dashboard breaks a rule of the checklist, and the linter notices each kind of mistake."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pool_exporter.catalogue.vocabularies import PROMETHEUS, VOCABULARIES
from pool_exporter.monitoring.dashboards import FROM_RECORDED, NAMES, Words, dashboard
from tests.monitoring.dashboards.linter import lint, panels_of

Json = dict[str, Any]
GROUPINGS = {
    "by default": Words(),
    "in a cluster": Words(
        selector='env="prod", region!~"us-.*"', group_by=("cluster", "namespace", "job", "pool")
    ),
    "with labels of alerts": Words(alert_labels=(("team", 'a "b" \\ c'),)),
}
CASES = [
    (vocabulary, grouping, recorded, name)
    for vocabulary in VOCABULARIES
    for grouping in GROUPINGS
    for recorded, names in ((False, NAMES), (True, FROM_RECORDED))
    for name in names
]


@pytest.mark.parametrize(("vocabulary", "grouping", "recorded", "name"), CASES)
def test_a_dashboard_keeps_every_rule(vocabulary: str, grouping: str, recorded: bool, name: str) -> None:
    """Whatever the vocabulary, selector, grouping and labels are, the linter has nothing to say."""
    words = replace(GROUPINGS[grouping], vocabulary=VOCABULARIES[vocabulary], recorded=recorded)
    assert lint(dashboard(name, words), words) == []


def panel(made: Json, kind: str) -> Json:
    """Return the first panel of a type that a mistake can be made in."""
    return next(one for one in panels_of(made) if one["type"] == kind)


def bars(made: Json) -> Json:
    """Return the first panel with bars."""
    return next(
        one
        for one in panels_of(made)
        if one["fieldConfig"]["defaults"].get("custom", {}).get("drawStyle") == "bars"
    )


def dashed(made: Json) -> list[Json]:
    """Return the settings of the first dashed line."""
    for one in panels_of(made):
        for override in one["fieldConfig"]["overrides"]:
            properties: list[Json] = override["properties"]
            if any(each["id"] == "custom.lineStyle" for each in properties):
                return properties
    raise AssertionError("no dashed line")


def variable(made: Json, name: str) -> Json:
    """Return a variable."""
    return next(one for one in made["templating"]["list"] if one["name"] == name)


def asks(expr: str, kind: str = "timeseries") -> Callable[[Json], object]:
    """Return the mistake of asking `expr` in the first query of a panel of a type."""
    return lambda made: panel(made, kind)["targets"][0].update(expr=expr)


S = '{job=~"$job", instance=~"$instance", pool=~"$pool"}'
P = "sqlalchemy_pool_"
MISTAKES: dict[str, tuple[Callable[[Json], object], str]] = {
    "editable": (lambda made: made.update(editable=True), "editable is not false"),
    "no uid": (lambda made: made.update(uid=""), "uid is not a stable one"),
    "no description of the whole": (lambda made: made.update(description=""), "has no description"),
    "other tags": (lambda made: made.update(tags=["x"]), "tags are not"),
    "links that lose time": (lambda made: made["links"][0].update(keepTime=False), "no links to the set"),
    "links that lose variables": (
        lambda made: made["links"][0].update(includeVars=False),
        "no links to the set",
    ),
    "no alerts": (lambda made: made["annotations"]["list"].pop(0), "no annotations for Alerts"),
    "expr of an annotation": (
        lambda made: made["annotations"]["list"][0].update(expr="x"),
        "has expr outside",
    ),
    "alerts of all jobs": (
        lambda made: made["annotations"]["list"][0]["target"].update(expr="ALERTS"),
        'ALERTS lacks job=~"$job|"',
    ),
    "annotation elsewhere": (
        lambda made: made["annotations"]["list"][0].update(datasource={"type": "prometheus", "uid": "x"}),
        "annotation Alerts: another data source",
    ),
    "a fixed data source": (
        lambda made: variable(made, "datasource").update(type="textbox"),
        "datasource: is not a choice",
    ),
    "no job": (
        lambda made: made["templating"]["list"].remove(variable(made, "job")),
        "variable job: missing",
    ),
    "one job only": (lambda made: variable(made, "job").update(multi=False), "multi is False"),
    "all by listing": (lambda made: variable(made, "pool").update(allValue=None), "allValue is None"),
    "refreshed once": (lambda made: variable(made, "pool").update(refresh=1), "refresh is 1"),
    "unsorted": (lambda made: variable(made, "instance").update(sort=0), "sort is 0"),
    "not chained": (
        lambda made: variable(made, "pool").update(
            query="label_values(x, pool)", definition="label_values(x, pool)"
        ),
        "variable pool: not narrowed by job",
    ),
    "an unknown variable": (asks(f"sum({P}overflow{S}) > $much"), "variable much: used and not there"),
    "a variable for nothing": (
        lambda made: made["templating"]["list"].append({"name": "spare", "type": "textbox"}),
        "variable spare: never used",
    ),
    "two of one title": (
        lambda made: panel(made, "stat").update(title=panel(made, "timeseries")["title"]),
        "2 with title",
    ),
    "two of one id": (
        lambda made: panel(made, "stat").update(id=panel(made, "timeseries")["id"]),
        "2 with id",
    ),
    "overlapping": (lambda made: panel(made, "stat")["gridPos"].update(x=6), "lies over another"),
    "sticking out": (lambda made: panel(made, "timeseries")["gridPos"].update(w=25), "sticks out"),
    "no advice": (lambda made: panel(made, "table").update(description="Shows x."), "what to do if not"),
    "no unit": (lambda made: panel(made, "state-timeline")["fieldConfig"]["defaults"].pop("unit"), "no unit"),
    "a panel elsewhere": (
        lambda made: panel(made, "table").update(datasource={"uid": "x"}),
        "another data source",
    ),
    "a query elsewhere": (
        lambda made: panel(made, "stat")["targets"][0].update(datasource={"uid": "x"}),
        "query 0: another data source",
    ),
    "no query": (lambda made: panel(made, "timeseries").update(targets=[]), "no query"),
    "no refId": (lambda made: panel(made, "timeseries")["targets"][0].pop("refId"), "refId is None"),
    "no legend": (lambda made: panel(made, "timeseries")["targets"][0].update(legendFormat=""), "no legend"),
    "legend hidden": (
        lambda made: panel(made, "timeseries")["options"]["legend"].update(showLegend=False),
        "no legend",
    ),
    "a link that loses time": (
        lambda made: panel(made, "state-timeline")["fieldConfig"]["defaults"]["links"][0].update(url="/d/x"),
        "does not carry ${__url_time_range}",
    ),
    "an unescaped link": (
        lambda made: panel(made, "state-timeline")["fieldConfig"]["defaults"]["links"][0].update(
            url="/d/x?${datasource:queryparam}&var-job=${__field.labels.job}&var-pool=a&${__url_time_range}"
        ),
        "are not escaped",
    ),
    "a link with quotes": (
        lambda made: panel(made, "heatmap")["links"][0].update(url='/explore?panes={"a":"${traces}"}'),
        "has what no URL may have",
    ),
    "a link to one source of traces": (
        lambda made: panel(made, "heatmap")["links"][0].update(url="/explore?panes=tempo"),
        "not to $traces",
    ),
    "no PromQL": (asks("sum("), "is no PromQL"),
    "an unknown metric": (asks(f"sum({P}conections{S})"), "is not in the catalogue"),
    "an unknown label": (asks(f'sum({P}overflow{S[:-1]}, state="used"}})'), "has no label state"),
    "an unknown value": (asks(f'sum({P}connections{S[:-1]}, state="busy"}})'), "has no state='busy'"),
    "every instance": (
        asks(f'sum({P}overflow{{job=~"$job", pool=~"$pool"}})'),
        'lacks instance=~"$instance"',
    ),
    "one job": (
        asks(f'sum({P}overflow{{job="$job", instance=~"$instance", pool=~"$pool"}})'),
        'lacks job=~"$job"',
    ),
    "in a table too": (asks(f"{P}overflow", "table"), 'lacks job=~"$job"'),
    "in a heatmap too": (asks(f"{P}overflow", "heatmap"), 'lacks job=~"$job"'),
    "another window": (asks(f"sum(rate({P}timeouts_total{S}[5m]))"), "not over exactly $__rate_interval"),
    "a window of the increase": (asks(f"sum(increase({P}timeouts_total{S}[1h]))"), "not over exactly"),
    "a rate of all of the time": (
        asks(f"sum(rate({P}timeouts_total{S}[$__range]))", "table"),
        "rate() is not over exactly",
    ),
    "a count of all of the time at each moment": (
        asks(f"sum(increase({P}timeouts_total{S}[$__range]))"),
        "at every moment of it",
    ),
    "a lifetime total": (asks(f"sum({P}timeouts_total{S})"), "counts since the start"),
    "a total at its highest": (
        asks(f"sum(max_over_time({P}timeouts_total{S}[$__rate_interval]))"),
        "counts since",
    ),
    "a total at its lowest": (
        asks(f"sum(min_over_time({P}timeouts_total{S}[$__range]))", "table"),
        "counts since",
    ),
    "an average since boot": (
        asks(f"sum({P}wait_seconds_sum{S}) / (sum({P}wait_seconds_count{S}) > 0)"),
        "counts since",
    ),
    "the rate of a gauge": (asks(f"sum(rate({P}overflow{S}[$__rate_interval]))"), "is a gauge"),
    "a histogram by name": (asks(f"sum({P}wait_seconds{S})"), "no series of this name"),
    "buckets not by le": (
        asks(f"sum(rate({P}wait_seconds_bucket{S}[$__rate_interval]))"),
        "not summed by le",
    ),
    "a quantile not by le": (
        asks(f"histogram_quantile(0.9, sum by (pool) (rate({P}wait_seconds_bucket{S}[$__rate_interval])))"),
        "not aggregated by le",
    ),
    "a division by 0": (asks(f"sum({P}overflow{S}) / sum({P}size{S})"), "a division may be by 0"),
    "too many lines": (asks(f"sum by (pool) ({P}overflow{S})"), "more than 5 lines"),
    "an axis from anywhere": (
        lambda made: panel(made, "timeseries")["fieldConfig"]["defaults"].pop("min"),
        "begin at 0",
    ),
    "a percent axis that moves": (
        lambda made: panel(made, "timeseries")["fieldConfig"]["defaults"].update(
            unit="percentunit", max=None
        ),
        "percent axis is not fixed",
    ),
    "a tooltip of one": (
        lambda made: panel(made, "timeseries")["options"]["tooltip"].update(mode="single"),
        "tooltip",
    ),
    "a tooltip unsorted": (
        lambda made: panel(made, "state-timeline")["options"]["tooltip"].update(sort="none"),
        "tooltip",
    ),
    "bars beside each other": (
        lambda made: bars(made)["fieldConfig"]["defaults"]["custom"].pop("stacking"),
        "bars are not stacked",
    ),
    "no words for no bars": (
        lambda made: bars(made)["fieldConfig"]["defaults"].pop("noValue"),
        "when there are none",
    ),
    "capacity filled": (
        lambda made: dashed(made).remove({"id": "custom.fillOpacity", "value": 0}),
        "is filled",
    ),
    "capacity stacked": (
        lambda made: dashed(made).remove({"id": "custom.stacking", "value": {"mode": "none", "group": "B"}}),
        "is stacked",
    ),
    "no exemplars": (
        asks(f"histogram_quantile(0.9, sum by (le) (rate({P}wait_seconds_bucket{S}[$__rate_interval])))"),
        "a duration without exemplars",
    ),
    "a heatmap in grey": (
        lambda made: panel(made, "heatmap")["options"]["color"].update(steps=0),
        "no steps",
    ),
    "a heatmap of nothing": (
        lambda made: panel(made, "heatmap")["options"]["yAxis"].pop("unit"),
        "not in seconds",
    ),
    "a heatmap of lines": (
        lambda made: panel(made, "heatmap")["targets"][0].update(format="time_series"),
        "for a heatmap",
    ),
    "a number without colours": (
        lambda made: panel(made, "stat")["fieldConfig"]["defaults"].pop("thresholds"),
        "without thresholds",
    ),
    "a number without words": (
        lambda made: panel(made, "stat")["fieldConfig"]["defaults"].pop("noValue"),
        "no words for no value",
    ),
    "many numbers": (asks(f"sum by (pool) ({P}overflow{S})", "stat"), "more than one number"),
    "a number of the past": (
        lambda made: panel(made, "stat")["targets"][0].update(instant=False),
        "not as it is now",
    ),
    "a table in any order": (lambda made: panel(made, "table")["options"].pop("sortBy"), "not sorted"),
    "a table of all times": (
        lambda made: panel(made, "table")["targets"][0].update(instant=False),
        "not instant",
    ),
    "a table that leads nowhere": (
        lambda made: panel(made, "table")["fieldConfig"].update(overrides=[]),
        "do not link down",
    ),
    "a table without words": (
        lambda made: panel(made, "table")["fieldConfig"]["defaults"].pop("noValue"),
        "no words for no row",
    ),
    "states without names": (
        lambda made: panel(made, "state-timeline")["fieldConfig"]["defaults"].update(mappings=[]),
        "states without names",
    ),
    "states that lead nowhere": (
        lambda made: panel(made, "state-timeline")["fieldConfig"]["defaults"].update(links=[]),
        "states do not link down",
    ),
}


R = '{job=~"$job", pool=~"$pool"}'
J = "job_pool:sqlalchemy_pool_"
RECORDED_MISTAKES: dict[str, tuple[Callable[[Json], object], str]] = {
    "a scraped series": (asks(f"sum({P}overflow{R})"), "is scraped, not recorded"),
    "a scraped start": (
        lambda made: made["annotations"]["list"][1]["target"].update(expr=f"{P}start_time_seconds{R}"),
        "is scraped, not recorded",
    ),
    "a scraped choice": (
        lambda made: variable(made, "job").update(
            query=f"label_values({P}processes, job)", definition=f"label_values({P}processes, job)"
        ),
        "variable job: asks ['sqlalchemy_pool_processes'], which is not recorded",
    ),
    "what no rule records": (asks(f"sum({J}overflow:sum{R})"), "is not recorded"),
    "an unknown label": (asks(f'sum({J}timeouts:rate5m{R[:-1]}, state="used"}})'), "has no label state"),
    "an unknown value": (asks(f'sum({J}connections:sum{R[:-1]}, state="busy"}})'), "has no state='busy'"),
    "an instance": (asks(f'sum({J}timeouts:rate5m{R[:-1]}, instance="a"}})'), "has no label instance"),
    "every pool": (asks(f'sum({J}timeouts:rate5m{{job=~"$job"}})'), 'lacks pool=~"$pool"'),
    "the rate of a rate": (
        asks(f"sum(rate({J}timeouts:rate5m{R}[$__rate_interval]))"),
        "its rate means nothing",
    ),
    "one of several recorded": (asks(f"topk(5, {J}timeouts:rate5m{R})"), "is not aggregated"),
    "buckets not by le": (asks(f"sum({J}wait_seconds_bucket:rate5m{R})"), "not summed by le"),
    "exemplars of rules": (
        lambda made: panel(made, "timeseries")["targets"][0].update(exemplar=True),
        "what is recorded has no exemplars",
    ),
}


@pytest.mark.parametrize("kind", RECORDED_MISTAKES)
def test_the_linter_notices_what_recorded_series_do_not_have(kind: str) -> None:
    """Of a dashboard of recorded series, one mistake is found and named."""
    mistake, complaint = RECORDED_MISTAKES[kind]
    words = Words(recorded=True)
    made = copy.deepcopy(dashboard("fleet", words))
    mistake(made)
    assert re.search(re.escape(complaint), "\n".join(lint(made, words))), lint(made, words)


def first_with(mistake: Callable[[Json], object]) -> tuple[Json, Words]:
    """Make a mistake in the first dashboard that has what it needs."""
    words = Words(PROMETHEUS)
    for name in ("pool", "leak-hunt", "fleet"):
        made = copy.deepcopy(dashboard(name, words))
        try:
            mistake(made)
        except (StopIteration, AssertionError, KeyError, ValueError):
            continue
        return made, words
    raise AssertionError("no dashboard can have this mistake")


@pytest.mark.parametrize("kind", MISTAKES)
def test_the_linter_notices(kind: str) -> None:
    """One mistake in a dashboard that is right otherwise is found, and named."""
    mistake, complaint = MISTAKES[kind]
    made, words = first_with(mistake)
    assert re.search(re.escape(complaint), "\n".join(lint(made, words))), lint(made, words)


def test_the_linter_notices_a_placement() -> None:
    """What the SDK adds to each link unasked does not get into a file."""
    made, words = first_with(lambda one: panel(one, "heatmap")["links"][0].update(placement="inControlsMenu"))
    assert any("has a placement" in what for what in lint(made, words))
