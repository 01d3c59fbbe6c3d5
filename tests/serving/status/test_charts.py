"""Check the charts and bars: where points lie, what axes say, and what happens without samples."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from pool_exporter.serving.status.bars import occupancy, share
from pool_exporter.serving.status.charts import history_charts
from tests.serving.status.records import (
    NOW,
    PoolSample,
    full_of_leaks,
    held,
    history,
    leaking,
    pending,
    status,
)

LEFT, RIGHT, TOP, BOTTOM = 54.0, 276.0, 10.0, 80.0


def sample(ago: float, **changes: float) -> PoolSample:
    fields = {"used": 0, "idle": 0, "pending": 0, "checkouts": 0, "timeouts": 0, "wait_seconds_sum": 0.0}
    return PoolSample(unix_time=NOW - ago, occupancy_seconds=0.0, **{**fields, **changes})  # type: ignore[arg-type]  # counts are ints


def charts(samples: tuple[PoolSample, ...], limit: int | None = None) -> dict[str, ET.Element]:
    """Return the figures by their titles."""
    root = ET.fromstring(history_charts(samples, limit))
    return {figure.findtext("figcaption/b") or "": figure for figure in root.findall("figure")}


def points(figure: ET.Element, kind: str) -> list[list[tuple[float, float]]]:
    """Return the points of each polyline of a kind."""
    lines = [line for line in figure.iter("polyline") if line.get("class") == f"line {kind}"]
    return [
        [(float(x), float(y)) for x, y in (pair.split(",") for pair in (line.get("points") or "").split())]
        for line in lines
    ]


def ticks(figure: ET.Element) -> list[str]:
    return [text.text or "" for text in figure.iter("text")]


def words(figure: ET.Element) -> list[str]:
    return ["".join(span.itertext()) for span in figure.findall("figcaption/span")]


@pytest.mark.parametrize("samples", [(), history(1), (sample(5), sample(5))], ids=["none", "one", "no time"])
def test_without_two_moments_the_charts_are_collecting(samples: tuple[PoolSample, ...]) -> None:
    """Until there is something to draw, each chart says that it collects."""
    figures = charts(samples)
    assert list(figures) == ["Connections", "Callers waiting", "Mean wait", "Pool timeouts"]
    assert [figure.findtext("p") for figure in figures.values()] == ["collecting…"] * 4


def test_connections_are_drawn_against_the_pools_limit() -> None:
    """Used and open connections lie between 0 and the pool's max, which is marked."""
    figure = charts((sample(10, used=0, idle=5), sample(0, used=5, idle=5)), limit=10)["Connections"]
    middle = (TOP + BOTTOM) / 2
    assert points(figure, "used") == [[(LEFT, BOTTOM), (RIGHT, middle)]]
    assert points(figure, "idle") == [[(LEFT, middle), (RIGHT, TOP)]]
    limit = next(line for line in figure.iter("line") if line.get("class") == "limit")
    assert (limit.get("y1"), limit.get("y2")) == (str(TOP), str(TOP))
    assert ticks(figure) == ["0", "max 10", "10 s ago", "now"]
    assert words(figure) == ["open 10, peak 10", "used 5, peak 5"]
    svg = figure.find("svg")
    assert svg is not None
    assert svg.get("aria-label") == "Connections: open 10, peak 10; used 5, peak 5"


def test_more_than_the_limit_is_drawn_too() -> None:
    """Just after a dispose there are more connections than max; the axis makes room."""
    figure = charts((sample(10, used=10), sample(0, used=14)), limit=10)["Connections"]
    assert points(figure, "used") == [[(LEFT, 45.0), (RIGHT, 31.0)]]
    assert ticks(figure)[:2] == ["0", "max 10"]


def test_without_a_limit_the_axis_ends_at_a_round_number() -> None:
    """An axis of counts ends at 1, 2 or 5 times a power of ten, and at 1 if nothing happened."""
    figures = charts((sample(300, used=3), sample(0, used=170)))
    assert ticks(figures["Connections"]) == ["0", "200", "5 min ago", "now"]
    assert ticks(figures["Callers waiting"])[:2] == ["0", "1"]
    assert not any(line.get("class") == "limit" for line in figures["Connections"].iter("line"))


def test_the_mean_wait_is_that_of_each_interval() -> None:
    """The mean is waiting per checkout between two samples, in seconds, and a gap where nobody was served."""
    figure = charts(
        (
            sample(40),
            sample(30, checkouts=10, wait_seconds_sum=1.0),
            sample(20, checkouts=20, wait_seconds_sum=3.0),
            sample(10, checkouts=20, wait_seconds_sum=3.0),
            sample(0, checkouts=21, wait_seconds_sum=3.05),
        )
    )["Mean wait"]
    assert points(figure, "waiting") == [[(109.5, 45.0), (165.0, 10.0)]]
    (dot,) = figure.iter("circle")
    assert (dot.get("cx"), dot.get("cy")) == ("276.0", "62.5")
    assert ticks(figure)[:2] == ["0 s", "200 ms"]
    assert words(figure) == ["50 ms, peak 200 ms"]


def test_an_interval_without_acquires_has_no_mean_wait() -> None:
    """Where nobody asked, the chart says so in place of a 0."""
    assert words(charts((sample(10), sample(0)))["Mean wait"]) == ["nobody asked"]


def test_timeouts_are_bars_of_what_came_new() -> None:
    """Each bar is the timeouts of one interval; older ones do not count."""
    figure = charts((sample(20, timeouts=100), sample(10, timeouts=100), sample(0, timeouts=105)))
    (bar,) = [one for one in figure["Pool timeouts"].iter("rect") if one.get("class") == "overdue"]
    assert (bar.get("x"), bar.get("y"), bar.get("width"), bar.get("height")) == (
        "165.0",
        "10.0",
        "110.5",
        "70.0",
    )
    assert words(figure["Pool timeouts"]) == ["5 in 20 s"]
    assert ticks(figure["Pool timeouts"])[:2] == ["0", "5"]


def test_a_long_history_is_thinned_and_keeps_its_last_sample() -> None:
    """However many samples there are, a line has at most 300 points and ends now."""
    samples = (*(sample(9_999 - number, used=number % 7) for number in range(9_999)), sample(0, used=42))
    (line,) = points(charts(samples)["Connections"], "used")
    assert 200 < len(line) <= 300
    assert line[-1][0] == RIGHT
    assert words(charts(samples)["Connections"])[1] == "used 42, peak 42"


# Bars


def rects(text: str) -> list[tuple[str, str, str]]:
    return re.findall(r'<rect class="(\w+)" x="([\d.]+)%" y="6" width="([\d.]+)%"', text)


def test_each_slot_has_a_cell_in_the_order_of_its_state() -> None:
    """Overdue, other used, connecting, idle and free slots stand side by side and fill the bar."""
    made = status(
        leaking(), leaking(1), held(), idle=1, size=4, max=8, pending_requests=pending(connecting=2)
    )
    cells = rects(occupancy(made.snapshot, made.held))
    assert [kind for kind, _, _ in cells] == ["overdue"] * 2 + ["used"] + ["connecting"] * 2 + ["idle"] + [
        "free"
    ] * 2
    assert [x for _, x, _ in cells] == [f"{12.5 * number:.2f}" for number in range(8)]
    assert {width for _, _, width in cells} == {"12.50"}


def test_the_bar_says_its_numbers_and_where_overflow_begins() -> None:
    """The numbers stand beside the bar and in its label; a mark shows the pool's size."""
    made = full_of_leaks()
    text = occupancy(made.snapshot, made.held)
    assert 'aria-label="12 used, overdue, 3 used, not overdue, 0 connecting, 0 idle, 0 not open; ' in text
    assert "overflow 5, pool_size 10, max 15" in text
    assert '<line class="mark" x1="66.67%" x2="66.67%"' in text
    assert "<b>12</b> used, overdue" in text


def test_a_large_pool_has_one_stretch_for_each_state() -> None:
    """Beyond 60 slots, cells would be too small to see."""
    made = status(*(held() for _ in range(50)), idle=10, size=100, max=200)
    cells = rects(occupancy(made.snapshot, made.held))
    assert cells == [("used", "0.00", "25.00"), ("idle", "25.00", "5.00"), ("free", "30.00", "70.00")]


def test_a_pool_without_limit_is_drawn_as_large_as_it_is() -> None:
    """Without a max, the bar is what is open, and says that there is no limit."""
    made = status(held(), idle=0, size=None, max=None)
    text = occupancy(made.snapshot, made.held)
    assert rects(text) == [("used", "0.00", "100.00")]
    assert "no limit" in text
    assert "mark" not in text


def test_a_pool_that_holds_more_than_its_max_fits_into_the_bar() -> None:
    """Just after a dispose, used exceeds max; no cell is drawn outside."""
    made = status(*(held() for _ in range(12)), idle=0, size=5, max=10)
    cells = rects(occupancy(made.snapshot, made.held))
    assert len(cells) == 12
    assert float(cells[-1][1]) + float(cells[-1][2]) == pytest.approx(100, abs=0.02)


def test_overdue_uses_that_share_a_connection_are_one_cell() -> None:
    """Where several uses share one connection, no more cells are overdue than used."""
    made = status(leaking(), leaking(1), used=1, idle=0, size=None, max=None)
    assert rects(occupancy(made.snapshot, made.held)) == [("overdue", "0.00", "100.00")]


@pytest.mark.parametrize(
    ("fraction", "width"),
    [(0.0, "0.00%"), (0.253, "25.30%"), (1.0, "100.00%"), (7.0, "100.00%"), (-1.0, "0.00%")],
)
def test_a_share_is_as_wide_as_its_fraction(fraction: float, width: str) -> None:
    """A share's bar stays within its track."""
    assert f'<rect class="used" width="{width}"' in share(fraction)
