"""Put panels together into a dashboard: variables, links, annotations, places and numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import prometheus
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models

from tools.dashboards.panels import SOURCE, UIDS, Builder
from tools.dashboards.queries import SCRAPED, Questions

WIDTH = 24
TAG = "sqlalchemy-pool"

Json = dict[str, Any]
_MARKS = "In the graphs a dashed line is blue where a process starts, red where an alert begins to fire, purple at a deploy."

_RECORDED = "It is made of recorded series: rates are over five minutes, and a process is to be chosen on the other dashboards. "


@dataclass(frozen=True, slots=True)
class Row:
    """Hold a row of panels under a heading: each with its width of 24; they fill lines of one height."""

    title: str
    height: int
    panels: Sequence[tuple[int, Builder]]


def dashboard(
    name: str,
    title: str,
    description: str,
    rows: Sequence[Row],
    *,
    start: str,
    more_variables: Sequence[build.TextBoxVariable] = (),
    questions: Questions = SCRAPED,
) -> Json:
    """Return a dashboard of the set as the JSON of its template; `questions` is what its panels are made of."""
    age = _RECORDED if questions.recorded else ""
    made = (
        build.Dashboard(f"SQLAlchemy pools: {title}<<title>>")
        .uid(f"{UIDS[name]}<<uid>>")
        .description(f"{description} {age}{_MARKS}")
        .tags([TAG, "<<vocabulary>>"])
        .readonly()
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .time(start, "now")
        .refresh("30s")
        .links([_set()])
    )
    for annotation in (_alerts(), _restarts(questions), _deploys()):
        made.annotation(annotation)
    for variable in (*_variables(questions), *more_variables):
        made.with_variable(variable)
    for panel in _placed(rows):
        if isinstance(panel, build.Row):
            made.with_row(panel)
        else:
            made.with_panel(panel)
    return _finished(json.loads(json.dumps(made.build(), cls=JSONEncoder)))


def _placed(rows: Sequence[Row]) -> Iterator[Builder]:
    """Yield headings and panels with their places, from left to right and top to bottom."""
    top = 0
    for row in rows:
        yield build.Row(row.title).grid_pos(models.GridPos(h=1, w=WIDTH, x=0, y=top))
        top, left = top + 1, 0
        for width, panel in row.panels:
            if left + width > WIDTH:
                top, left = top + row.height, 0
            yield panel.grid_pos(models.GridPos(h=row.height, w=width, x=left, y=top))
            left += width
        top += row.height


def _finished(made: Json) -> Json:
    """Number what the SDK leaves without a number, and take off what it adds unasked."""
    for number, panel in enumerate(made["panels"], start=1):
        panel["id"] = number
        for letter, target in zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", panel.get("targets", ()), strict=False):
            target["refId"] = letter
    for annotation in made["annotations"]["list"]:
        if "target" in annotation:
            annotation["target"].setdefault("refId", "Anno")
    panel_links = [link for panel in made["panels"] for link in panel.get("links", ())]
    data_links = [
        link
        for panel in made["panels"]
        for link in panel.get("fieldConfig", {}).get("defaults", {}).get("links", ())
    ]
    for one in (*made["links"], *made["annotations"]["list"], *panel_links, *data_links):
        one.pop("placement", None)
    for panel in made["panels"]:
        if panel["type"] == "table":
            del panel["options"]["footer"]  # no option any more as of Grafana 13
    for variable in made["templating"]["list"]:
        for name in ("auto", "auto_min", "auto_count"):  # of interval variables only
            variable.pop(name, None)
    return made


def _set() -> build.DashboardLink:
    """Return the menu of the set's dashboards, which keeps time and variables."""
    made = build.DashboardLink("SQLAlchemy pools").type(models.DashboardLinkType.DASHBOARDS)
    return made.tags([TAG, "<<vocabulary>>"]).keep_time(True).include_vars(True).as_dropdown(False)


def _variables(questions: Questions) -> Iterator[Builder]:
    yield (
        build.DatasourceVariable("datasource")
        .label("Metrics")
        .type("prometheus")
        .description("Where the metrics are.")
    )
    yield _labels("job", "Job", "job", "Applications, as the scrape calls them.", questions)
    if not questions.recorded:
        yield _labels(
            "instance", "Instance", "instance", "Processes, or the machines that they run on.", questions
        )
    yield _labels("pool", "Pool", "<<.pool>>", "Pools, as their application calls them.", questions)
    traces = (
        build.DatasourceVariable("traces").label("Traces").type("tempo").hide(models.VariableHide.HIDE_LABEL)
    )
    yield traces.description("Where the traces are that exemplars lead to.")


def _labels(
    name: str, label: str, spelled: str, description: str, questions: Questions
) -> build.QueryVariable:
    """Return a choice among the values of a label, those that the choices before leave."""
    series = questions.each("acquires_total", "rate5m").replace(">>", f" before {name}>>")
    query = f"label_values({series}, {spelled})"
    everything = models.VariableOption(text="All", value="$__all", selected=True)
    made = build.QueryVariable(name).label(label).description(description).datasource(SOURCE)
    made.query(query).definition(query).current(everything).multi(True).include_all(True).all_value(".+")
    return made.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(
        models.VariableSort.ALPHABETICAL_ASC
    )


def _annotation(name: str, expr: str, color: str) -> build.AnnotationQuery:
    made = build.AnnotationQuery().name(name).datasource(SOURCE).enable(True).icon_color(color)
    target = prometheus.Dataquery().expr(expr).range().datasource(SOURCE).legend_format(name)
    return made.target(target)


def _alerts() -> build.AnnotationQuery:
    made = _annotation("Alerts", "<<ALERTS>>", "red").title_format("{{alertname}}")
    return made.text_format("<<legend>>").tag_keys("severity")


def _restarts(questions: Questions) -> build.AnnotationQuery:
    """Return a mark at each start of a process; the value of the series is its time, in milliseconds.

    Of starts between two evaluations of the rules, the last is recorded.
    """
    starts = questions.highest("start_time_seconds") if questions.recorded else "<<start_time_seconds>>"
    started = "a process of {{job}}" if questions.recorded else "{{instance}}"
    made = _annotation("Restarts", f"{starts} * 1000", "blue").use_value_for_time(True)
    return made.title_format(f"Start of {started}").text_format("<<legend>>").tag_keys("job")


def _deploys() -> build.AnnotationQuery:
    """Return the marks that a deploy makes by POSTing an annotation with this tag to Grafana."""
    own = common.DataSourceRef(type_val="grafana", uid="-- Grafana --")
    tags = build.AnnotationTarget().tags(["deploy"]).type("tags").limit(100).match_any(True)
    made = build.AnnotationQuery().name("Deploys").datasource(own).enable(True).icon_color("purple")
    return made.target(tags)
