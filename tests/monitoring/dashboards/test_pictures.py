"""The pages that the dashboards' pictures are taken of show every panel, whole and legible."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pool_exporter_lab.demo import faults
from tests.monitoring.dashboards.grafana import Json
from tests.monitoring.dashboards.node import need_modules
from tests.monitoring.dashboards.review import LOAD, PICTURES, WIDTH, html_of, photograph_the_page, scenes
from tests.monitoring.dashboards.stage import STATUS_PAGE
from tests.monitoring.dashboards.test_queries import Plays, Servers, hung
from tests.serving.status.browser import Browser, a_page, chromium

EMPTY: dict[str, set[str]] = {
    "fleet": set(),
    "pool-under-load": {"Connect errors and disconnects", "Dead at the pre-ping", "When connections die"},
    "pool-with-a-leak": {
        *(
            "Closes by reason",
            "Connect errors and disconnects",
            "Dead at the pre-ping",
            "When connections die",
        ),
    },
    "leak-hunt": set(),
    "leak-hunt-under-load": {"New leaks by owner", "Suspected, recovered, collected"},
}
"""Panels that say in words that nothing happened."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def made(played: Path) -> Iterator[dict[str, Json]]:
    need_modules()
    with scenes(played) as found:
        yield found


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_whole(
    browser: Browser, made: dict[str, Json], servers: Servers, plays: Plays, tmp_path: Path, name: str
) -> None:
    """Every panel is drawn or says that there is nothing, and no heading, legend or word is cut off; a long table scrolls."""
    page_file = tmp_path / "page.html"
    page_file.write_text(html_of(made[name]), "utf-8")
    with a_page(browser, width=WIDTH) as page:
        page.open(page_file.as_uri())
        assert page.complaints() == []
        assert page.evaluate("document.body.dataset.drawn") == "yes"
        shots = os.environ.get("POOL_EXPORTER_SHOTS")
        page.screenshot(Path(shots or tmp_path) / f"{name}.png")
        empty = "[...document.querySelectorAll('.empty')].map((one) => one.closest('section').querySelector('h2').textContent)"
        said = set(page.evaluate(empty))
        # Honest transactions of an application that hung were idle for too long, which the panels then show.
        late = name == "leak-hunt-under-load" and hung(servers["prometheus"], plays[LOAD], LOAD)
        assert said == EMPTY[name] or (late and said == set())
        bare = """[...document.querySelectorAll('section:not(.row)')].filter((one) =>
          !one.querySelector('canvas, .number, td, .bar, .empty')).map((one) => one.textContent)"""
        assert page.evaluate(bare) == []
        cut = """[...document.querySelectorAll('h2, .legend, .scroll, .number, .states')].filter((one) =>
          one.scrollWidth > one.clientWidth + 1 ||
          (!one.matches('.scroll') && one.scrollHeight > one.clientHeight + 1)).map((one) =>
          `${one.className} ${one.closest('section').querySelector('h2').textContent}`)"""
        assert page.evaluate(cut) == []


def test_the_verdicts_tell_a_leak_from_load(made: dict[str, Json]) -> None:
    """At the end of each picture the sentence on top is the one for what happened, and names the pool."""

    def verdict(name: str) -> str:
        (panel,) = (one for one in made[name]["panels"] if one["title"] == "Leak or load, and what to do")
        (series,) = panel["series"]
        assert panel["named"]
        text = panel["names"][f"{series['values'][-1]:g}"]["text"]
        return f"{series['name']}: {text}"

    leaks, loads = "Worst pool: checkout checkout-db: LEAK, ", "Worst pool: orders orders-db: LOAD "
    assert verdict("leak-hunt").startswith(f"{leaks}and the pool is full. Mend the owner")
    assert verdict("pool-with-a-leak").startswith(f"{leaks}and the pool is full.")
    worst = verdict("fleet")  # one of the two that are full by a leak
    assert worst.startswith((leaks, leaks.replace("checkout", "support")))
    assert verdict("pool-under-load").startswith(f"{loads}fills the pool, nothing leaks.")
    assert verdict("leak-hunt-under-load").startswith(f"{loads}fills the pool, nothing leaks.")


def test_the_guilty_route_is_on_top_of_the_table(made: dict[str, Json]) -> None:
    """In the picture of the leak hunt the first row is the route that leaks, all ten of its connections red."""
    (table,) = (one for one in made["leak-hunt"]["panels"] if one["title"] == "Who holds connections")
    shown = {column["name"]: table["rows"][0][column["key"]] for column in table["columns"]}
    assert shown == {
        "Job": "checkout",
        "Pool": "checkout-db",
        "Owner": "POST /orders/{id}/refund",
        "Holds": 10,
        "On average": pytest.approx(10, abs=3),  # of four scrapes, each of which may come late
        "Leaks": 10,
    }


def test_the_status_page_of_the_play_names_the_line_of_what_the_table_names(
    browser: Browser, played: Path, tmp_path: Path
) -> None:
    """The picture beside the leak hunt's is of the same pool and route at the same time, and it names function and line."""
    photograph_the_page(browser, played, tmp_path / "page.png")
    with a_page(browser, width=WIDTH, scripts=False) as page:
        page.open((played / STATUS_PAGE).as_uri())
        said = page.evaluate("document.body.innerText")
        assert page.complaints() == []
    assert (tmp_path / "page.png").stat().st_size > 50_000
    assert "checkout-db" in said
    assert "full: 10 of 10 uses overdue, all from POST /orders/{id}/refund" in said
    source, first = inspect.getsourcelines(faults.refund_order)
    line = first + next(place for place, text in enumerate(source) if "engine.connect()" in text)
    assert said.count(f"pool_exporter_lab.demo.faults:refund_order (faults.py:{line})") >= 10
