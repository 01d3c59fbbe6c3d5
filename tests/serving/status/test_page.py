"""Check what the status page shows of pools, holders and reports."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from pool_exporter.records import PoolStatus
from pool_exporter.serving.status.page import CONTENT_SECURITY_POLICY, page_pieces
from pool_exporter.serving.status.text import escaped, markup
from pool_exporter.support.text import visible
from tests.serving.asgi import ask
from tests.serving.status.records import (
    HOSTILE,
    NOW,
    busy,
    full_of_leaks,
    held,
    leak_report,
    leaking,
    status,
    timeout_report,
)
from tests.serving.status.serving import page_of

VOID = {"meta", "link", "br", "rect", "line"}


def page(*statuses: PoolStatus, **options: Any) -> str:
    """Return the page at a known time."""
    known = {"now": NOW, "refresh_seconds": 5, "process_id": 4242, "metrics_href": "./metrics"}
    return "".join(page_pieces(statuses, **{**known, **options}))


class Outline(HTMLParser):
    """Read a page strictly: every element is closed in its turn; keep texts, attributes and tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.rows: dict[str, list[list[str]]] = {}
        self._table = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        assert len(attributes) == len(attrs), f"an attribute of {tag} is given twice"
        self.tags.append((tag, attributes))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self._table = attributes["class"] or ""
            self.rows[self._table] = []
        elif tag == "tr":
            self.rows[self._table].append([])
        elif tag in ("td", "th"):
            self.rows[self._table][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("style", "script"):
            return
        self.texts.append(data)
        if "tr" in self.open:
            self.rows[self._table][-1][-1] += data + " "

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def cells(self, table: str) -> list[list[str]]:
        """Return a table's rows below its headings."""
        return [[" ".join(cell.split()) for cell in row] for row in self.rows[table][1:]]


# What it shows


def test_without_pools_it_says_what_to_do() -> None:
    """An empty page names the line that is missing."""
    text = Outline(page()).text
    assert "0 pools." in text
    assert "from pool_exporter import instrument instrument(engine)" in text


def test_a_pool_shows_its_name_verdict_and_numbers() -> None:
    """Name, identity, verdict in words with its severity, slots, acquires and counters are there."""
    outline = Outline(page(full_of_leaks()))
    for words in (
        "Process 4242 at 00:00:00 UTC . 1 pool.",
        "orders postgresql+asyncpg · AsyncAdaptedQueuePool · db:5432/shop ✕ Critical full: 12 of 15 uses "
        "overdue, all from POST /chat/stream; the oldest 12 min 5 s, 6 callers queued",
        "12 used, overdue 3 used, not overdue 0 idle overflow 5 pool_size 10 max 15",
        "Acquires in progress queued 6 connecting 0 pinging 0 longest 18 s",
        "In the last 2 h 10 min checkouts 12\u202f345 pool timeouts 31 leaks suspected 14 leaks collected 1",
        "pool_size 10 max 15 pool_timeout 30 s pool_recycle 30 min pre_ping true reset_on_return rollback",
    ):
        assert words.replace("\u202f", " ") in outline.text.replace("\u202f", " ")
    assert outline.tags[0] == ("html", {"lang": "en"})
    assert "<title>✕ Critical · Connection pools</title>" in page(full_of_leaks())


def test_holders_are_a_table_with_all_that_is_known() -> None:
    """A holder's row has owner, function, file and line, ages, state, task, place, pid, port and trace."""
    rows = Outline(page(full_of_leaks())).cells("holders")
    assert rows[0] == [
        "POST /chat/stream shop.auth:get_current_user (auth.py:88)",
        "12 min 5 s",
        "12 min 5 s",
        "⚠ overdue idle in transaction",
        "Task-100 asyncio.queues:get (queues.py:158) uvicorn.protocols.http:run_asgi (h11_impl.py:410) "
        "starlette.responses:stream_response (responses.py:257) shop.chat:tokens (chat.py:31) "
        "asyncio.queues:get (queues.py:158)",
        "pid 5000 port 40000",
        "0af7651916cd43dd8448eb211c80319c",
    ]
    assert rows[12][1:5] == ["210 ms", "0 s", "busy in transaction", "Task-7"]
    assert rows[14] == [
        "job:nightly-report shop.orders:get_order (orders.py:42) SELECT 1",
        "3 ms",
        "3 ms",
        "exempt",
        "–",
        "pid 4711 port 51234",
        "–",
    ]


def test_unknown_things_are_left_open() -> None:
    """A holder of whom nothing is known has a row all the same."""
    nobody = held(
        "unknown",
        function=None,
        filename=None,
        lineno=None,
        task_name=None,
        trace_id=None,
        in_transaction=None,
        backend_pid=None,
        local_port=None,
    )
    assert Outline(page(status(nobody))).cells("holders") == [
        ["unknown", "40 ms", "40 ms", "–", "–", "–", "–"]
    ]


def test_overdue_holders_come_first_and_are_marked() -> None:
    """Overdue rows stand before older ones that are not, and are marked by class and by word."""
    text = page(status(held("old but honest", 9000.0), leaking()))
    assert [row[0].split()[0] for row in Outline(text).cells("holders")] == ["POST", "old"]
    assert text.count('<tr class="late">') == text.count("⚠ overdue") == 1


def test_a_hundred_holders_are_shown_and_the_rest_counted() -> None:
    """Of 200 holders 100 have rows, and the page says that there are 100 more."""
    rows = Outline(page(status(*(held(f"job {n}") for n in range(200))))).cells("holders")
    assert len(rows) == 101
    assert rows[-1] == ["and 100 more"]
    rows = Outline(page(status(*(held(f"job {n}") for n in range(100))))).cells("holders")
    assert len(rows) == 100


def test_a_deep_stack_is_shown_from_its_inner_end() -> None:
    """Of a deep stack the 12 innermost frames are shown, and the rest counted."""
    text = Outline(page(status(held(stack=tuple(f"frame{n}" for n in range(50)))))).text
    assert "… 38 further out" in text
    assert "frame37" not in text
    assert "frame38" in text


def test_sql_is_shown_only_where_it_was_asked_for() -> None:
    """Without a statement in the record there is no place for one."""
    assert "statement" not in Outline(page(status(held()))).text
    assert 'class="statement"' not in page(status(held()))
    assert "SELECT &lt;1&gt;" in page(status(held(statement="SELECT <1>")))


def test_owners_are_shown_with_their_shares() -> None:
    """Each owner has the connections it holds now, its share of all use time, and its leaks."""
    assert Outline(page(full_of_leaks())).cells("owners") == [
        ["POST /chat/stream", "12", "82% 2 h 24 min", "14"],
        ["GET /orders/{id}", "2", "5% 8 min 32 s", "0"],
        ["job:nightly-report", "1", "13% 23 min 20 s", "0"],
    ]


def test_reports_are_shown_with_time_kind_and_holders() -> None:
    """Timeouts say who held the connections, leaks who they were, the newest first."""
    rows = Outline(page(full_of_leaks())).cells("reports")
    assert rows[0] == [
        "23:59:48 UTC 12 s ago",
        "✕ pool timeout after 30 s",
        "12 × POST /chat/stream , 3 × GET /orders/{id} the oldest 12 min 5 s",
        "15 of 15 used, 6 acquires in progress",
    ]
    assert [row[1] for row in rows[2:]] == ["⚠ leak suspected", "✓ came back after all", "✕ leak collected"]
    assert rows[2][2:] == [
        "POST /chat/stream shop.auth:get_current_user (auth.py:88)",
        "idle in transaction, held for 12 min 5 s, pid 5000",
    ]
    assert rows[4][3] == "held for 12 min 5 s, pid 5000"


def test_fifty_reports_are_shown_and_the_rest_counted() -> None:
    """A list of reports that is longer than a page is cut."""
    rows = Outline(page(status(reports=[leak_report()] * 60))).cells("reports")
    assert (len(rows), rows[-1]) == (51, ["and 10 more"])


def test_reports_of_unknown_things_are_shown_too() -> None:
    """A timeout without limits and holders, an event of a later version and an absurd time break nothing."""
    reports = [
        timeout_report(timeout_seconds=None, max=None, pending=None, held=()),
        leak_report("forgiven <b>", kind="<i>"),
        leak_report(unix_time=1e30),
    ]
    rows = Outline(page(status(reports=reports))).cells("reports")
    assert rows[0][1:] == ["✕ pool timeout", "–", "15 used"]
    assert rows[1][1] == "forgiven <b>"
    assert rows[1][3].startswith("<i>, held for")
    assert rows[2][0].startswith("at an unknown time")


def test_reduced_mode_says_what_is_not_known() -> None:
    """In reduced mode the page says so, and shows no 0 in place of what nobody knows."""
    made = status(
        held(),
        mode="reduced",
        pending_requests=None,
        oldest_pending_seconds=None,
        timeouts=None,
        info={},
    )
    text = Outline(page(made)).text
    assert "reduced mode" in text
    assert "queued not known connecting not known pinging not known longest not known" in text
    assert "pool timeouts not known" in text


def test_several_pools_have_an_overview() -> None:
    """With two pools or more, a list at the top leads to each, with its verdict."""
    outline = Outline(page(full_of_leaks(), busy()))
    assert [attributes["href"] for tag, attributes in outline.tags if tag == "a"][:2] == [
        "#pool-1",
        "#pool-2",
    ]
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert {"pool-1", "pool-2"} <= set(ids)
    assert len(ids) == len(set(ids))
    assert "<nav" not in page(busy())


def test_of_very_many_pools_the_worst_are_shown_in_full() -> None:
    """With more than 50 pools each has its verdict, the worst are shown in full, and the rest is counted."""
    outline = Outline(page(*(status(name=f"pool {number}") for number in range(1, 100)), full_of_leaks()))
    sections = [attributes["id"] for tag, attributes in outline.tags if tag == "section"]
    assert sections == [f"pool-{number}" for number in (*range(1, 50), 100)]
    assert [attributes["href"] for tag, attributes in outline.tags if tag == "a"][:50] == [
        f"#{section}" for section in sections
    ]
    assert outline.text.count("idle: 3 open, none in use") == 99 + 49
    assert "and 50 more; their verdicts are above, the JSON has all." in outline.text


# Text from outside


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_stays_text_everywhere(text: str) -> None:
    """Whatever names are, the page has the same elements and attributes, and can be encoded."""

    def made(name: str) -> PoolStatus:
        everywhere = held(
            name,
            function=name,
            filename=name,
            task_name=name,
            trace_id=name,
            overdue=name,
            statement=name,
            stack=(name, name),
        )
        return status(
            everywhere,
            reports=[leak_report(name, kind=name, held=everywhere), timeout_report(held=(everywhere,))],
            name=name,
            info=dict.fromkeys(("dialect", "driver", "server", "pre_ping", "reset_on_return"), name),
            owner_leaks={name: 1},
        )

    def skeleton(outline: Outline) -> list[tuple[str, list[str]]]:
        return [(tag, sorted(attributes.keys() - {"title"})) for tag, attributes in outline.tags]

    hostile = page(made(text), made(text))
    assert skeleton(Outline(hostile)) == skeleton(Outline(page(made("name"), made("name"))))
    hostile.encode()
    body = hostile.partition("</style>")[2].rpartition("<script>")[0]
    assert not re.search(
        r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", body.replace("\n\n", "")
    )
    assert "x" * 501 not in body


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("naïve 日本 שלום 🙂", "naïve 日本 שלום 🙂"),
        ("a\nb\r\t\x00\x1b[31m\x7f\x85", r"a\nb\r\t\x00\x1b[31m\x7f\x85"),
        ("\u202a\u202e\u2066\u2069\u200e\u200f\u061c", r"\u202a\u202e\u2066\u2069\u200e\u200f\u061c"),
        ("\u2028\u2029\ufeff\u200b\xa0", r"\u2028\u2029\ufeff\u200b\xa0"),
        ("\ud800", r"\ud800"),
        ("e\u0301", "e\u0301"),
        ("e" + "\u0301" * 5, "e" + "\u0301" * 3 + r"\u0301\u0301"),
        ("x" * 200, "x" * 200),
        ("x" * 201, "x" * 200 + "…"),
        ("\n" * 200, r"\n" * 100 + "…"),
    ],
    ids=range(11),
)
def test_nothing_hides_in_a_text(text: str, shown: str) -> None:
    """What cannot be seen is written as an escape, and what is long is cut."""
    assert visible(text) == shown


def test_markup_is_escaped_isolated_and_has_more_in_its_title() -> None:
    """Text in HTML is escaped and isolated; cut text has up to 500 characters in its title."""
    assert escaped("<&\"'>") == "&lt;&amp;&quot;&#x27;&gt;"
    assert markup("<b>") == "<bdi>&lt;b&gt;</bdi>"
    assert markup("x" * 600) == f'<bdi title="{"x" * 500}…">{"x" * 200}…</bdi>'


# Self-contained and protected


def test_the_page_needs_nothing_from_elsewhere() -> None:
    """No element of the page leads to another server, and none has a style or a handler of its own."""
    for tag, attributes in Outline(page(full_of_leaks(), busy())).tags:
        assert not any(name.startswith("on") or name in ("style", "src", "srcset") for name in attributes)
        if tag in ("a", "link"):
            href = attributes["href"] or ""
            assert href.startswith(("#", "?", "./", "data:image/svg+xml,")), href


def test_the_policy_allows_just_the_pages_own_style_and_script() -> None:
    """The policy's hashes are those of the page's one style and one script, and all else is forbidden."""
    text = page(busy())
    for element, directive in (("style", "style-src"), ("script", "script-src")):
        (source,) = re.findall(f"<{element}>(.*?)</{element}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}';" in CONTENT_SECURITY_POLICY
    for directive in (
        "default-src 'none'",
        "connect-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    ):
        assert directive in CONTENT_SECURITY_POLICY
    assert "unsafe" not in CONTENT_SECURITY_POLICY


@pytest.mark.parametrize(
    ("seconds", "shown", "without_script"), [(5, "5 s", "5"), (2.5, "2.5 s", "3"), (60, "1 min", "60")]
)
def test_it_refreshes_itself_with_and_without_javascript(
    seconds: float, shown: str, without_script: str
) -> None:
    """The interval is told to people and to the script, and to browsers without one in whole seconds."""
    text = page(refresh_seconds=seconds)
    assert f'<noscript><meta http-equiv="refresh" content="{without_script}"></noscript></head>' in text
    assert f'<body data-refresh="{seconds:g}">' in text
    assert f"refreshed every {shown}" in text


async def test_the_page_is_sent_with_protective_headers() -> None:
    """Type, length, policy and the other headers that keep the page to itself are sent."""
    answer = await ask(page_of(busy()))
    assert answer.status == 200
    assert answer.headers["content-length"] == str(len(answer.text.encode()))
    del answer.headers["content-length"]
    assert answer.headers == {
        "content-type": "text/html; charset=utf-8",
        "vary": "Accept",
        "content-security-policy": CONTENT_SECURITY_POLICY,
        "cache-control": "no-store",
        "cross-origin-resource-policy": "same-origin",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
    }
