"""Make one panel each: a graph, a heatmap, a number, a table, a timeline of states, as all dashboards have them.

Expressions are templates, see `tools.dashboards.spelling`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import heatmap, prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = common.DataSourceRef(type_val="prometheus", uid="${datasource}")
RATE = "$__rate_interval"
SHOWN = "$__range"
"""All of the time shown, for a number that counts over it; rates are over `RATE`."""
UIDS = {"fleet": "sqlalchemy-pool-fleet", "pool": "sqlalchemy-pool", "leak-hunt": "sqlalchemy-pool-leak-hunt"}
"""What each dashboard is found by; the alerts lead to that of a pool."""

Builder = Any
"""A builder of one of the SDK's panels; they share no class that has their common methods."""


@dataclass(frozen=True, slots=True)
class Words:
    """Hold what the description of a panel says: what it shows, what good looks like, what to do else."""

    shows: str
    good: str
    otherwise: str

    @property
    def text(self) -> str:
        """Return the description as Markdown."""
        return f"{self.shows}\n\n**Good:** {self.good}\n\n**If not:** {self.otherwise}"


@dataclass(frozen=True, slots=True)
class Line:
    """Hold one query of a panel.

    `legend` is the name of its only series, or a pattern of labels. `dashed` is for what is compared
    with: a dashed line without fill, never stacked.
    """

    expr: str
    legend: str
    color: str | None = None
    dashed: bool = False
    exemplars: bool = False


def link(title: str, target: str, kept: str, job: str, pool: str) -> build.DashboardLink:
    """Return a link to another dashboard of the set, for the job and pool that two `${…}` stand for.

    `kept` is the word of the template for the other variables.
    """
    url = (
        f"/d/{UIDS[target]}<<uid>>?<<{kept}>>"
        f"&var-job=${{{job}:percentencode}}&var-pool=${{{pool}:percentencode}}&${{__url_time_range}}"
    )
    return build.DashboardLink(title).type(models.DashboardLinkType.LINK).url(url)


def links_of_series() -> list[build.DashboardLink]:
    """Return the links on a series that has the labels of a pool."""
    names = ("series", "__field.labels.job", "__field.labels.<<.pool>>")
    return [link("This pool", "pool", *names), link("Hunt the leak", "leak-hunt", *names)]


_COLORS = "The colours tell the lines of this graph apart and mean nothing else."


def graph(
    title: str,
    words: Words,
    unit: str,
    lines: Sequence[Line],
    *,
    stacked: bool = False,
    bars: bool = False,
    maximum: float | None = None,
    empty: str | None = None,
    by_pool: bool = False,
) -> Builder:
    """Return lines or bars over time, from 0 up; `maximum` fixes the axis, `empty` stands where nothing is."""
    if any("{{" in line.legend for line in lines):
        words = replace(words, shows=f"{words.shows} {_COLORS}")
    panel = common_panel(timeseries.Panel(), title, words, unit, lines).min(0)
    panel.tooltip(_tooltip()).legend(_legend(["max"] if bars else ["lastNotNull", "max"])).show_points(
        common.VisibilityMode.NEVER
    )
    panel.line_width(1 if bars else 2).fill_opacity(80 if bars else 25 if stacked else 0)
    panel.axis_soft_max(1) if maximum is None and unit != "percentunit" else panel.max(maximum or 1)
    if bars:
        panel.draw_style(common.GraphDrawStyle.BARS)
    if stacked or bars:
        panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
    if empty:
        panel.no_value(empty)
    if by_pool:
        panel.data_links(links_of_series())
    for line in lines:
        properties = [*_color(line), *(_DASHED if line.dashed else ())]
        if properties:
            panel.override_by_name(line.legend, properties)
    return panel


def heat(title: str, words: Words, bucket: str) -> Builder:
    """Return how a duration was spread over time, from the buckets of a histogram, with exemplars."""
    lines = [Line(f"sum by (le) (rate(<<{bucket}>>[{RATE}]))", "{{le}}", exemplars=True)]
    panel = common_panel(heatmap.Panel(), title, words, "reqps", lines, shape=PromQueryFormat.HEATMAP)
    color = heatmap.HeatmapColorOptions().mode(heatmap_models.HeatmapColorMode.SCHEME).scheme("Oranges")
    panel.color(color.steps(64).exponent(0.5).fill("dark-orange").reverse(False))
    panel.y_axis(heatmap.YAxisConfig().unit("s").axis_placement(common.AxisPlacement.LEFT))
    panel.tooltip(heatmap.HeatmapTooltip().mode(common.TooltipDisplayMode.SINGLE).y_histogram(True))
    panel.rows_frame(heatmap.RowsHeatmapOptions().layout(common.HeatmapCellLayout.LE).value("acquires"))
    return panel.cell_gap(1).show_legend().no_value("Nothing was measured").links([_traces()])


def number(
    title: str,
    words: Words,
    unit: str,
    line: Line,
    steps: Sequence[tuple[float | None, str]],
    *,
    empty: str = "No data",
    decimals: int | None = None,
) -> Builder:
    """Return one number as it is now; `steps` are thresholds and the colours from there on.

    The query is instant: the last value of a range would be that of a process that is gone.
    """
    panel = common_panel(stat.Panel(), title, words, unit, [line], instant=True).no_value(empty)
    panel.thresholds(_thresholds(steps)).graph_mode(common.BigValueGraphMode.NONE)
    panel.color_mode(common.BigValueColorMode.BACKGROUND).text_mode(common.BigValueTextMode.VALUE)
    panel.reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]).values(False).fields(""))
    return panel if decimals is None else panel.decimals(decimals)


def sentence(
    title: str, words: Words, line: Line, names: Mapping[int, tuple[str, str]], *, empty: str
) -> Builder:
    """Return a sentence on its colour, under what it is about; `names` gives both for each number."""
    steps = [(None, "text"), (0.0, "text")]
    panel = number(title, words, "none", line, steps, empty=empty).mappings(_mappings(names))
    return panel.text_mode(common.BigValueTextMode.VALUE_AND_NAME)


def states(title: str, words: Words, expr: str, names: Mapping[int, tuple[str, str]]) -> Builder:
    """Return a bar of states for each pool over time; `names` gives text and colour of each number."""
    panel = common_panel(statetimeline.Panel(), title, words, "none", [Line(expr, "<<legend>>")])
    panel.mappings(_mappings(names)).tooltip(_tooltip()).legend(_legend([]))
    panel.color_scheme(build.FieldColor().mode(models.FieldColorModeId.FIXED).fixed_color("text"))
    panel.show_value(common.VisibilityMode.NEVER).merge_values(True).row_height(0.8).fill_opacity(85)
    return panel.line_width(0).no_value("No pool").data_links(links_of_series())


def _mappings(names: Mapping[int, tuple[str, str]]) -> list[models.ValueMapping]:
    results = {
        str(value): models.ValueMappingResult(text=text, color=color, index=index)
        for index, (value, (text, color)) in enumerate(names.items())
    }
    return [models.ValueMap(options=results)]


def common_panel(
    panel: Builder,
    title: str,
    words: Words,
    unit: str,
    lines: Sequence[Line],
    *,
    shape: PromQueryFormat = PromQueryFormat.TIME_SERIES,
    instant: bool = False,
) -> Builder:
    """Return a panel with what all types have: title, description, unit, data source and queries."""
    panel.title(title).description(words.text).unit(unit).datasource(SOURCE)
    for line in lines:
        query = (
            prometheus.Dataquery().expr(line.expr).legend_format(line.legend).format(shape).datasource(SOURCE)
        )
        query = query.instant() if instant else query.range()
        panel.with_target(query.exemplar(line.exemplars))
    if shape is PromQueryFormat.TIME_SERIES and any(line.exemplars for line in lines):
        panel.links([_traces()])
    return panel


def _traces() -> build.DashboardLink:
    """Return the link from a panel with exemplars to the source of traces that the variable names."""
    panes = '{"a":{"datasource":"${traces}","queries":[{"refId":"A","queryType":"traceqlSearch"}],"range":{"from":"${__from}","to":"${__to}"}}}'
    return (
        build.DashboardLink("Traces of this time")
        .url("/explore?schemaVersion=1&panes=" + panes.replace('"', "%22"))
        .target_blank(True)
    )


def _tooltip() -> common_builders.VizTooltipOptions:
    return (
        common_builders.VizTooltipOptions()
        .mode(common.TooltipDisplayMode.MULTI)
        .sort(common.SortOrder.DESCENDING)
    )


def _legend(calcs: list[str]) -> common_builders.VizLegendOptions:
    shown = common_builders.VizLegendOptions().show_legend(True).placement(common.LegendPlacement.BOTTOM)
    mode = common.LegendDisplayMode.TABLE if calcs else common.LegendDisplayMode.LIST
    return shown.display_mode(mode).calcs(calcs)


def property_of(name: str, value: object) -> models.DynamicConfigValue:
    """Return a setting of one line or column."""
    return models.DynamicConfigValue(id_val=name, value=value)


def _color(line: Line) -> list[models.DynamicConfigValue]:
    return [property_of("color", {"mode": "fixed", "fixedColor": line.color})] if line.color else []


_DASHED = (
    property_of("custom.lineStyle", {"fill": "dash", "dash": [10, 10]}),
    property_of("custom.fillOpacity", 0),
    property_of("custom.stacking", {"mode": "none", "group": "B"}),
)


def _thresholds(steps: Sequence[tuple[float | None, str]]) -> build.ThresholdsConfig:
    made = [models.Threshold(value=value, color=color) for value, color in steps]
    return build.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(made)
