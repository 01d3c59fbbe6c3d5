"""Check the page in a real headless Chromium: how it looks, refreshes itself, and keeps hostile text harmless."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pool_exporter.records import PoolStatus
from tests.serving.status.browser import Browser, Page, a_page, chromium
from tests.serving.status.records import (
    HOSTILE,
    NOW,
    busy,
    full_of_leaks,
    held,
    history,
    leak_report,
    leaking,
    status,
    timeout_report,
)
from tests.serving.status.serving import showing

TOKEN = "correct-horse-battery"
PHONE = {"width": 390, "height": 844}
# Resolves when the page has next put a fresh <main> in place of the old one.
REFRESHED = """new Promise((done) => new MutationObserver((changes, observer) => {
  observer.disconnect();
  done(true);
}).observe(document.body, { childList: true }))"""
# The text with the least contrast to what is behind it, as [contrast, text].
FAINTEST = """(() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = (color) => color.slice(0, 3).map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (one) => {
    for (; one; one = one.parentElement) {
      const color = rgba(getComputedStyle(one).backgroundColor);
      if (color[3] > 0) return color;
    }
    return [255, 255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let faintest = [21, ""];
  while (walker.nextNode()) {
    const one = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !one.checkVisibility() || one.matches("script")) continue;
    const style = getComputedStyle(one);
    const [a, b] = [light(rgba(one.matches("text") ? style.fill : style.color)), light(behind(one))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < faintest[0]) faintest = [contrast, walker.currentNode.data];
  }
  return faintest;
})()"""


def crowded() -> PoolStatus:
    """Make a pool with 200 holders, of whom every fifth leaks."""
    return status(
        *(
            leaking(n) if n % 5 == 0 else held(f"GET /reports/{n % 37}", n / 10, backend_pid=n)
            for n in range(200)
        ),
        name="crowded",
        idle=0,
        size=50,
        max=200,
        samples=history(),
        owner_use_seconds={f"GET /reports/{n}": 3.0 * n for n in range(20)},
    )


def hostile() -> PoolStatus:
    """Make a pool in which every text is hostile."""
    holders = [
        held(
            text,
            3.0,
            function=text,
            filename=text,
            task_name=text,
            trace_id=text,
            stack=(text, text),
            statement=text,
            overdue=text if number % 2 else None,
        )
        for number, text in enumerate(HOSTILE.values())
    ]
    return status(
        *holders,
        name=HOSTILE["right-to-left"] + HOSTILE["script"],
        info=dict.fromkeys(("dialect", "server", "pre_ping"), HOSTILE["image"]),
        reports=[
            *(leak_report(one.owner, kind=one.owner, held=one) for one in holders),
            timeout_report(held=holders),
        ],
        samples=history(),
        owner_use_seconds={one.owner: 1.0 for one in holders},
    )


SCENES: dict[str, Sequence[PoolStatus]] = {
    "no pool": [],
    "no holder": [status(name="legacy")],
    "one holder": [busy()],
    "leaks": [full_of_leaks()],
    "three pools": [full_of_leaks(), busy(), status(name="legacy", samples=history(1))],
    "200 holders": [crowded()],
    "hostile": [hostile()],
    "reduced": [
        status(
            held(),
            mode="reduced",
            size=None,
            max=None,
            pending_requests=None,
            oldest_pending_seconds=None,
            timeouts=None,
        )
    ],
}
HOLDERS = {"one holder": 1, "leaks": 15, "three pools": 16, "200 holders": 101, "hostile": 11, "reduced": 1}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(autouse=True)
def known_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the page be of the time that the records are of."""
    monkeypatch.setattr("pool_exporter.serving.status.app.time.time", lambda: NOW)


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    """Return where pictures go: the directory that POOL_EXPORTER_SHOTS names, to be looked at."""
    directory = Path(os.environ.get("POOL_EXPORTER_SHOTS") or tmp_path)
    directory.mkdir(exist_ok=True)
    return directory


def assert_harmless(page: Page, url: str) -> None:
    """Check that nothing ran, nothing was asked of others, and the browser has nothing to complain of."""
    assert page.complaints() == []
    assert all(asked.startswith((url, "data:image/svg+xml,")) for asked in page.requested())
    assert page.evaluate("'pwned' in document.body.dataset") is False
    assert page.evaluate("document.title") in (
        "Connection pools",
        "⚠ Attention · Connection pools",
        "✕ Critical · Connection pools",
    )


@pytest.mark.parametrize("look", ["light", "dark", "phone"])
@pytest.mark.parametrize("scene", SCENES)
def test_every_scene_is_complete_legible_and_harmless(
    browser: Browser, shots: Path, scene: str, look: str
) -> None:
    """Each pool and holder is shown, no text is faint, nothing sticks out of a phone, and nothing is loaded."""
    size = PHONE if look == "phone" else {}
    with (
        showing(lambda: SCENES[scene]) as url,
        a_page(browser, dark=look == "dark", **size) as page,
    ):
        page.open(url + "/")
        page.screenshot(shots / f"{scene.replace(' ', '-')}-{look}.png")
        assert_harmless(page, url)
        assert page.evaluate("document.querySelectorAll('main > section').length") == max(
            1, len(SCENES[scene])
        )
        rows = page.evaluate("document.querySelectorAll('.holders tbody tr').length")
        assert rows == HOLDERS.get(scene, 0)
        assert page.evaluate("document.documentElement.scrollWidth") == size.get("width", 1280)
        contrast, text = page.evaluate(FAINTEST)
        assert contrast >= 4.5, text
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (background == "rgb(16, 20, 24)") == (look == "dark")


@pytest.mark.parametrize("width", [320, 600, 721, 1080, 1081, 1920])
def test_no_width_makes_the_page_scroll_sideways(browser: Browser, width: int) -> None:
    """Whatever the window's width, wide tables scroll by themselves, and the page does not."""
    with showing(lambda: [hostile(), crowded()]) as url, a_page(browser, width=width) as page:
        page.open(url + "/")
        assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("width", [390, 800, 1081, 1280])
def test_nothing_lies_over_its_neighbour(browser: Browser, width: int) -> None:
    """Whatever the window's width, what cannot be broken into lines fits into its cell."""
    with showing(lambda: [full_of_leaks()]) as url, a_page(browser, width=width) as page:
        page.open(url + "/")
        outside = page.evaluate(
            """[...document.querySelectorAll("td .badge, td .nowrap, td bdi, time")].filter((one) => {
              const [own, cell] = [one, one.closest("td, th, p")].map((each) => each.getBoundingClientRect());
              return own.right > cell.right + 1;
            }).map((one) => one.textContent)"""
        )
    assert outside == []


@pytest.mark.parametrize("width", [390, 721, 1081, 1920])
def test_charts_can_be_read(browser: Browser, width: int) -> None:
    """No letter in a chart is smaller than 9 pixels, and none is cut off at its edge."""
    with showing(lambda: [full_of_leaks()]) as url, a_page(browser, width=width) as page:
        page.open(url + "/")
        texts = page.evaluate(
            """[...document.querySelectorAll("figure text")].map((text) => {
              const [own, chart] = [text.getBoundingClientRect(), text.ownerSVGElement.getBoundingClientRect()];
              const scale = chart.width / text.ownerSVGElement.viewBox.baseVal.width;
              return [text.textContent, parseFloat(getComputedStyle(text).fontSize) * scale,
                own.left >= chart.left && own.right <= chart.right && own.bottom <= chart.bottom];
            })"""
        )
    assert len(texts) == 16
    assert [text for text, pixels, inside in texts if pixels < 9 or not inside] == []


# JavaScript off and on


def test_without_javascript_everything_is_there_and_refreshes(browser: Browser, shots: Path) -> None:
    """Without scripts all is shown, no button does nothing, and the browser loads the page again."""
    with showing(lambda: [full_of_leaks()], refresh_seconds=1) as url, a_page(browser, scripts=False) as page:
        page.open(url + "/")
        page.screenshot(shots / "without-javascript.png")
        assert_harmless(page, url)
        assert page.evaluate("document.querySelectorAll('.holders tbody tr').length") == 15
        assert page.evaluate("document.getElementById('pause').checkVisibility()") is False
        page.forget()
        page.wait_for(lambda event: event["method"] == "Page.loadEventFired", "the page is loaded again")


class Changing:
    """A source whose pools a test changes."""

    def __init__(self, *pools: PoolStatus) -> None:
        self.pools: Sequence[PoolStatus] = pools

    def __call__(self) -> Sequence[PoolStatus]:
        return self.pools


def refreshed(page: Page, what: Callable[[], Any]) -> Any:
    """Return the first true value of `what()` after one refresh or more."""
    for _ in range(10):
        assert page.evaluate(REFRESHED)
        if value := what():
            return value
    raise AssertionError("ten refreshes changed nothing")


def test_with_javascript_it_refreshes_itself_and_stays_where_it_is(browser: Browser) -> None:
    """A refresh shows what is new, and keeps the scroll position, opened stacks and the focus."""
    source = Changing(full_of_leaks(), busy())
    with showing(source, refresh_seconds=1) as url, a_page(browser) as page:
        page.open(url + "/")
        page.evaluate("document.querySelectorAll('details')[2].open = true")
        page.evaluate("document.querySelectorAll('summary')[2].focus({ preventScroll: true })")
        page.evaluate("window.scrollTo(0, 700)")
        source.pools = [full_of_leaks(), status(held(), held("GET /new"), name="reports")]
        refreshed(
            page, lambda: page.evaluate("document.querySelector('main').innerText.includes('GET /new')")
        )
        assert page.evaluate("window.scrollY") == 700
        assert page.evaluate("[...document.querySelectorAll('details')].findIndex((one) => one.open)") == 2
        assert page.evaluate("document.activeElement === document.querySelectorAll('summary')[2]") is True
        source.pools = [status()]
        refreshed(page, lambda: page.evaluate("document.title") == "Connection pools")
        assert_harmless(page, url)


def test_hostile_text_that_comes_with_a_refresh_stays_harmless(browser: Browser) -> None:
    """What arrives later, and what is touched, clicked and opened, is as harmless as what was there first."""
    source = Changing(status(name="quiet"))
    with showing(source, refresh_seconds=1) as url, a_page(browser) as page:
        page.open(url + "/")
        source.pools = [hostile()]
        refreshed(page, lambda: page.evaluate("document.querySelectorAll('.holders tbody tr').length") == 11)
        page.evaluate(
            """for (const one of document.querySelectorAll("main *")) {
              if (one.tagName === "DETAILS") one.open = true;
              for (const kind of ["mouseover", "focus", "error", "load"]) one.dispatchEvent(new Event(kind));
            }"""
        )
        assert_harmless(page, url)


def test_it_can_be_paused_and_resumed(browser: Browser) -> None:
    """Pause stops the refreshes and says so; resume asks at once."""
    source = Changing(busy())
    with showing(source, refresh_seconds=1) as url, a_page(browser) as page:
        page.open(url + "/")
        page.evaluate("document.getElementById('pause').click()")
        assert page.evaluate("document.getElementById('state').textContent") == "paused"
        assert page.evaluate("document.getElementById('pause').textContent") == "Resume"
        page.evaluate("new Promise((done) => setTimeout(done, 1500))")  # longer than the interval
        assert len(page.requested()) == 1
        page.evaluate("document.getElementById('pause').click()")
        assert page.evaluate(REFRESHED) is True
        assert page.evaluate("document.getElementById('state').textContent") == "refreshed every 1 s"


def test_paused_while_it_asks_it_stays_as_it_is(browser: Browser) -> None:
    """An answer that arrives after the pause changes nothing, and no further one is asked for."""
    with showing(lambda: [busy()], refresh_seconds=1) as url, a_page(browser) as page:
        page.open(url + "/")
        page.evaluate(
            """new Promise((asked) => {
              const fetch = window.fetch;
              window.before = document.querySelector("main");
              window.calls = 0;
              window.fetch = (...request) => {
                window.calls += 1;
                asked(true);
                return new Promise((go) => { window.go = go; }).then(() => fetch(...request));
              };
            })"""
        )
        page.evaluate("document.getElementById('pause').click()")
        page.evaluate("window.go()")
        page.evaluate("new Promise((done) => setTimeout(done, 1500))")  # longer than the interval
        assert page.evaluate("[window.calls, window.before === document.querySelector('main')]") == [1, True]
        assert page.evaluate("document.getElementById('state').textContent") == "paused"


def test_marked_text_is_not_taken_away(browser: Browser) -> None:
    """While somebody marks text, the page waits with its refresh."""
    with showing(lambda: [busy()], refresh_seconds=1) as url, a_page(browser) as page:
        page.open(url + "/")
        page.evaluate("document.getSelection().selectAllChildren(document.querySelector('.owner'))")
        page.evaluate("new Promise((done) => setTimeout(done, 1500))")  # longer than the interval
        assert len(page.requested()) == 1
        page.evaluate("document.getSelection().removeAllRanges()")
        assert page.evaluate(REFRESHED) is True


def test_it_says_when_the_process_fails_and_recovers(browser: Browser) -> None:
    """While the process answers with errors, the last page stays and says so; afterwards it goes on."""
    source = Changing(busy())

    def state_becomes(words: str) -> bool:
        return bool(
            page.evaluate(
                f"""new Promise((done) => {{
                  const state = document.getElementById("state");
                  const look = () => state.textContent.includes({words!r}) && done(true);
                  new MutationObserver(look).observe(state, {{ childList: true, characterData: true, subtree: true }});
                  look();
                }})"""
            )
        )

    with showing(source, refresh_seconds=1) as url, a_page(browser) as page:
        page.open(url + "/")
        source.pools = None  # type: ignore[assignment]  # wrong on purpose
        assert state_becomes("not refreshed: it answered 500; trying again")
        assert page.evaluate("document.querySelectorAll('.holders tbody tr').length") == 1
        source.pools = [busy()]
        assert state_becomes("refreshed every 1 s")


# Protection


def test_a_browser_that_knows_the_token_gets_in_and_goes_on(browser: Browser, shots: Path) -> None:
    """With the token as password the page loads and refreshes itself; without it there is a 401."""
    with showing(lambda: [busy()], token=TOKEN, refresh_seconds=1) as url, a_page(browser) as page:
        page.open(url + "/")
        assert (
            "401" in str(page.evaluate("document.body?.innerText")) or page.evaluate("document.title") == ""
        )
        page.open(url.replace("://", f"://me:{TOKEN}@") + "/")
        assert page.evaluate("document.querySelectorAll('.holders tbody tr').length") == 1
        assert page.evaluate(REFRESHED) is True
        assert page.complaints() == []


def test_the_policy_stops_what_escaping_would_have_missed(browser: Browser) -> None:
    """Were markup to get in, its handlers, scripts, styles and pictures would still do nothing."""
    with showing(lambda: [busy()]) as url, a_page(browser) as page:
        page.open(url + "/")
        for text in HOSTILE.values():
            page.call(
                "Runtime.evaluate",
                expression=f"document.querySelector('main').insertAdjacentHTML('beforeend', {text[:400]!r})",
            )
        page.evaluate("fetch('http://127.0.0.1:1/elsewhere').catch(() => true)")
        assert page.evaluate("'pwned' in document.body.dataset") is False
        assert page.complaints() != []
        answered = [event["response"]["url"] for event in page.events("Network.responseReceived")]
        assert [asked for asked in answered if not asked.startswith("data:")] == [url + "/"]


def test_no_page_can_show_it_in_a_frame(browser: Browser) -> None:
    """Put in a frame, the page is not shown."""
    with showing(lambda: [busy()]) as url, a_page(browser) as page:
        page.call(
            "Page.setDocumentContent",
            frameId=page.call("Page.getFrameTree")["frameTree"]["frame"]["id"],
            html=f"<iframe src='{url}/'></iframe>",
        )
        page.wait_for(
            lambda event: event["method"] == "Log.entryAdded" and "frame" in event["params"]["entry"]["text"],
            "the browser refuses the frame",
        )
