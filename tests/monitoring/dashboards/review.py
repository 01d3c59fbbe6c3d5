"""Photograph the dashboards, as a page draws them from what was played.

`python -m tests.monitoring.dashboards.review PLAYED DIRECTORY` plays where PLAYED holds nothing yet, and writes the pictures.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pool_exporter.monitoring.dashboards import Words, dashboard
from pool_exporter_lab.demo.scenarios import WAVE_SECONDS
from tests.monitoring.dashboards import stage
from tests.monitoring.dashboards.drawing import drawn
from tests.monitoring.dashboards.grafana import Choice, Json, asked, choosing
from tests.monitoring.dashboards.node import MODULES, need_modules
from tests.serving.status.browser import Browser, a_page, chromium

PAGE = Path(__file__).parent / "page"
WIDTH = 1600
LEAK, LOAD = stage.JOBS["leak"], stage.JOBS["load"]
PICTURES: dict[str, tuple[str, Choice]] = {
    "fleet": ("fleet", choosing(Words(), job=list(stage.JOBS.values()))),
    "pool-under-load": ("pool", choosing(Words(), job=[LOAD], pool=[stage.POOLS[LOAD]])),
    "pool-with-a-leak": ("pool", choosing(Words(), job=[LEAK], pool=[stage.POOLS[LEAK]])),
    "leak-hunt": ("leak-hunt", choosing(Words(), job=[LEAK], pool=[stage.POOLS[LEAK]])),
    "leak-hunt-under-load": ("leak-hunt", choosing(Words(), job=[LOAD], pool=[stage.POOLS[LOAD]])),
}
"""What is photographed: a dashboard, and what is chosen on it."""


def html_of(scene: Json) -> str:
    """Return a page that draws one dashboard and asks nobody for anything."""
    parts = {
        "UPLOT_CSS": (MODULES / "uplot" / "dist" / "uPlot.min.css").read_text("utf-8"),
        "UPLOT_JS": (MODULES / "uplot" / "dist" / "uPlot.iife.min.js").read_text("utf-8"),
        "PAGE_CSS": (PAGE / "page.css").read_text("utf-8"),
        "PAGE_JS": (PAGE / "page.js").read_text("utf-8"),
        "DASHBOARD": json.dumps(scene).replace("</", "<\\/"),
    }
    html = (PAGE / "page.html").read_text("utf-8").replace("/*DASHBOARD*/null", "/*DASHBOARD*/")
    for name, text in parts.items():
        html = html.replace(f"/*{name}*/", text)
    return html


@contextlib.contextmanager
def scenes(played: Path) -> Iterator[dict[str, Json]]:
    """Give what each picture shows."""
    plays = stage.plays(played).values()
    start = round(min(play.healthy_from for play in plays) + 2)
    end = round(max(play.trouble_to for play in plays) - 1)
    with (
        tempfile.TemporaryDirectory() as directory,
        stage.replayed(played, "prometheus", Path(directory)) as server,
    ):
        yield {
            name: drawn(
                dashboard(which, Words()),
                server.address,
                choice,
                start,
                _crest(server.address, end) if "load" in name else end,
            )
            for name, (which, choice) in PICTURES.items()
        }


def _crest(address: str, end: int) -> int:
    """Return the moment of the last wave of load when most callers queued."""
    query = f'sqlalchemy_pool_pending_requests{{job="{LOAD}", phase="queued"}}'
    data = asked(address, "query_range", query=query, start=end - WAVE_SECONDS, end=end, step=1)
    (series,) = data["result"]
    return int(max(series["values"], key=lambda one: float(one[1]))[0])


def photograph(browser: Browser, scene: Json, picture: Path) -> list[str]:
    """Write one picture; return what the browser complained of."""
    page_file = picture.with_suffix(".html")
    page_file.write_text(html_of(scene), "utf-8")
    try:
        with a_page(browser, width=WIDTH) as page:
            page.open(page_file.as_uri())
            if page.evaluate("document.body.dataset.drawn") != "yes":
                return ["not drawn to its end", *page.complaints()]
            page.screenshot(picture)
            return page.complaints()
    finally:
        page_file.unlink()


def photograph_the_page(browser: Browser, played: Path, picture: Path) -> None:
    """Write a picture of the status page of the same leak: it names what metrics cannot, function and line."""
    with a_page(browser, width=WIDTH, scripts=False) as page:  # which would ask for a newer one
        page.open((played / stage.STATUS_PAGE).as_uri())
        page.screenshot(picture)


def main(played: Path, directory: Path) -> None:
    """Write every picture."""
    if not (played / "plays.json").exists():
        stage.play(played)
    need_modules()
    directory.mkdir(parents=True, exist_ok=True)
    with scenes(played) as made, chromium() as browser:
        for name, scene in made.items():
            complaints = photograph(browser, scene, directory / f"{name}.png")
            print(name, complaints or "drawn")
        photograph_the_page(browser, played, directory / "status-page.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]).resolve())
