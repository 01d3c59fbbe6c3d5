"""Draw a pool's last minutes as small charts in inline SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pool_exporter.records import PoolSample
from pool_exporter.support.text import humanised

_WIDTH, _HEIGHT = 280, 104
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 276, 10, 80
_MAX_POINTS = 300
_TOPS_SECONDS = (
    *(step * 10.0**power for power in (-3, -2, -1, 0) for step in (1, 2, 5)),
    *(10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0),
)

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Line:
    """Hold what is drawn over time: Unix times and values, a gap where a value is None.

    `kind` is its CSS class. An area is filled down to 0; bars reach back to the point before.
    """

    name: str
    kind: str
    points: Sequence[tuple[float, float | None]]
    style: str = "line"


@dataclass(frozen=True, slots=True)
class Chart:
    """Hold one chart: its lines over the same time, and how its values are written."""

    title: str
    lines: Sequence[Line]
    written: Callable[[float], str]
    whole_numbers: bool = True
    limit: int | None = None


def history_charts(history: Sequence[PoolSample], limit: int | None) -> str:
    """Return the charts of a pool's history: connections, waiting callers, mean wait, timeouts.

    `limit` is the pool's max, drawn as a line if there is one. With fewer than two samples there
    is nothing to draw yet, and the charts say so.
    """
    samples = _thinned(history)
    times = [sample.unix_time for sample in samples]
    used: list[float | None] = [sample.used for sample in samples]
    charts = (
        Chart(
            "Connections",
            (
                Line("open", "idle", [(s.unix_time, s.used + s.idle) for s in samples], "area"),
                Line("used", "used", list(zip(times, used, strict=True)), "area"),
            ),
            _count,
            limit=limit,
        ),
        Chart("Callers waiting", (Line("waiting", "waiting", _pending(samples), "area"),), _count),
        Chart(
            "Mean wait",
            (Line("", "waiting", _mean_waits(samples)),),
            humanised,
            whole_numbers=False,
        ),
        Chart("Pool timeouts", (Line("timeouts", "overdue", _new_timeouts(samples), "bars"),), _count),
    )
    return f'<div class="charts">{"".join(draw(chart, times) for chart in charts)}</div>'


def draw(chart: Chart, times: Sequence[float]) -> str:
    """Return one chart as a figure that says in words what it shows."""
    span = times[-1] - times[0] if times else 0.0
    summaries = [_summary(line, chart.written, span) for line in chart.lines]
    shown = " ".join(
        f'<span><i class="swatch {line.kind}"></i>{summary}</span>'
        for line, summary in zip(chart.lines, summaries, strict=True)
    )
    if span <= 0:
        return f'<figure><figcaption><b>{chart.title}</b></figcaption><p class="collecting">collecting…</p></figure>'
    top = _top(chart)
    plot = "".join(_drawn(line, times, top) for line in chart.lines)
    if chart.limit is not None:
        y = _y(chart.limit, top)
        plot += f'<line class="limit" x1="{_LEFT}" x2="{_RIGHT}" y1="{y}" y2="{y}"/>'
    return (
        f"<figure><figcaption><b>{chart.title}</b>{shown}</figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{chart.title}: {"; ".join(summaries)}">'
        f"{_axes(chart, span, top)}{plot}</svg></figure>"
    )


def _summary(line: Line, written: Callable[[float], str], span: float) -> str:
    values = [value for _, value in line.points if value is not None]
    if line.style == "bars":
        return f"{written(sum(values))} in {humanised(span)}"
    if not values:
        return "nobody asked"
    last = line.points[-1][1]
    now = "–" if last is None else written(last)
    return f"{line.name}{line.name and ' '}{now}, peak {written(max(values))}"


def _axes(chart: Chart, span: float, top: float) -> str:
    limit = chart.limit
    ticks = {0.0: chart.written(0), top: chart.written(top)}
    if limit is not None and 0.25 * top <= limit <= top:
        ticks = {0.0: chart.written(0), float(limit): f"max {limit}" if limit < 1000 else str(limit)}
    marks = "".join(
        f'<line class="axis" x1="{_LEFT}" x2="{_RIGHT}" y1="{_y(value, top)}" y2="{_y(value, top)}"/>'
        f'<text class="tick" x="{_LEFT - 6}" y="{_y(value, top) + 4}" text-anchor="end">{text}</text>'
        for value, text in ticks.items()
    )
    y = _HEIGHT - 8
    return (
        f"{marks}"
        f'<text class="tick" x="{_LEFT}" y="{y}">{humanised(span)} ago</text>'
        f'<text class="tick" x="{_RIGHT}" y="{y}" text-anchor="end">now</text>'
    )


def _drawn(line: Line, times: Sequence[float], top: float) -> str:
    begin, end = times[0], times[-1]

    def x(time: float) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * (time - begin) / (end - begin), 1)

    if line.style == "bars":
        return "".join(
            f'<rect class="{line.kind}" x="{x(before)}" y="{_y(value, top)}" '
            f'width="{max(1.5, round(x(time) - x(before) - 0.5, 1))}" height="{round(_BOTTOM - _y(value, top), 1)}"/>'
            for (before, _), (time, value) in pairwise(line.points)
            if value
        )
    drawn = ""
    for run in _runs(line.points):
        path = " ".join(f"{x(time)},{_y(value, top)}" for time, value in run)
        if len(run) == 1:
            drawn += f'<circle class="{line.kind}" cx="{x(run[0][0])}" cy="{_y(run[0][1], top)}" r="2"/>'
            continue
        if line.style == "area":
            area = f"{x(run[0][0])},{_BOTTOM} {path} {x(run[-1][0])},{_BOTTOM}"
            drawn += f'<polygon class="area {line.kind}" points="{area}"/>'
        drawn += f'<polyline class="line {line.kind}" points="{path}"/>'
    return drawn


def _runs(points: Sequence[tuple[float, float | None]]) -> list[list[Point]]:
    """Return the stretches of points between gaps."""
    runs: list[list[Point]] = [[]]
    for time, value in points:
        if value is None:
            runs.append([])
        else:
            runs[-1].append((time, value))
    return [run for run in runs if run]


def _y(value: float, top: float) -> float:
    return round(_BOTTOM - (_BOTTOM - _TOP) * min(value, top) / top, 1)


def _top(chart: Chart) -> float:
    """Return the upper end of the value axis: the pool's max, or a round value."""
    peak = max((value or 0.0 for line in chart.lines for _, value in line.points), default=0.0)
    if chart.limit is not None and peak <= chart.limit:
        return float(max(chart.limit, 1))
    if not chart.whole_numbers:
        return next((top for top in _TOPS_SECONDS if top >= peak), peak)
    power = 10.0 ** math.floor(math.log10(max(peak, 1.0)))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= peak)


def _count(value: float) -> str:
    return f"{value:g}" if value < 1e6 else f"{value:.3g}"


def _pending(samples: Sequence[PoolSample]) -> list[tuple[float, float | None]]:
    return [(sample.unix_time, sample.pending) for sample in samples]


def _mean_waits(samples: Sequence[PoolSample]) -> list[tuple[float, float | None]]:
    """Return the mean wait of the acquires between two samples, None where none succeeded."""
    means: list[tuple[float, float | None]] = []
    for before, sample in pairwise(samples):
        checkouts = sample.checkouts - before.checkouts
        waited = max(0.0, sample.wait_seconds_sum - before.wait_seconds_sum)
        means.append((sample.unix_time, waited / checkouts if checkouts > 0 else None))
    return means


def _new_timeouts(samples: Sequence[PoolSample]) -> list[tuple[float, float | None]]:
    """Return the timeouts between two samples; the first sample only says where the first bar begins."""
    first: list[tuple[float, float | None]] = [(sample.unix_time, None) for sample in samples[:1]]
    return first + [
        (sample.unix_time, max(0, sample.timeouts - before.timeouts)) for before, sample in pairwise(samples)
    ]


def _thinned(history: Sequence[PoolSample]) -> Sequence[PoolSample]:
    """Return at most so many samples as a chart has room for, the last one always."""
    step = -(-len(history) // _MAX_POINTS) if history else 1
    return history[::-1][::step][::-1]
