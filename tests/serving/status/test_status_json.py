"""Check the JSON: when it is sent, and that it has every field of every record."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from pool_exporter.messages.verdict import verdict
from pool_exporter.records import (
    HeldConnection,
    LeakReport,
    PoolSample,
    PoolSnapshot,
    PoolStatus,
    TimeoutReport,
)
from pool_exporter.serving.status.json import json_pieces
from tests.serving.asgi import ask
from tests.serving.status.records import HOSTILE, busy, full_of_leaks, held, status
from tests.serving.status.serving import page_of


def document(*statuses: PoolStatus) -> Any:
    return json.loads("".join(json_pieces(statuses)))


def names(record: type[Any]) -> set[str]:
    return set(record.__annotations__)


def test_without_pools_the_list_is_empty() -> None:
    """No pool is an empty list."""
    assert document() == {"pools": []}


def test_every_field_of_every_record_is_there() -> None:
    """Pools, snapshots, holders, reports and samples have their fields by name, and what is derived."""
    made = full_of_leaks()
    pools = document(made, busy())["pools"]
    assert [pool["name"] for pool in pools] == ["orders", "reports"]
    pool = pools[0]
    assert pool.keys() == {"name", "verdict"} | names(PoolStatus)
    assert pool["snapshot"].keys() == names(PoolSnapshot) | {"open", "overflow", "pending"}
    assert all(one.keys() == names(HeldConnection) for one in pool["held"])
    assert all(one.keys() == names(PoolSample) for one in pool["history"])
    by_type = {one["type"]: one for one in pool["reports"]}
    assert by_type["leak"].keys() == names(LeakReport) | {"type"}
    assert by_type["timeout"].keys() == names(TimeoutReport) | {"type"}


def test_values_are_those_of_the_records() -> None:
    """Numbers, texts, mappings, unknown values and the order of lists go through unchanged."""
    made = full_of_leaks()
    pool = document(made)["pools"][0]
    found = verdict(made.snapshot, made.held)
    assert pool["verdict"] == {"state": "full_leak", "severity": "critical", "text": found.text}
    snapshot = pool["snapshot"]
    assert (snapshot["max"], snapshot["open"], snapshot["overflow"], snapshot["pending"]) == (15, 15, 5, 6)
    assert snapshot["pending_requests"] == {"queued": 6, "connecting": 0, "pinging": 0}
    assert snapshot["wait_seconds"] is None
    assert snapshot["use_seconds"] == {
        "bounds": [1.0],
        "counts": [0, 0],
        "sum": 0.0,
        "count": 0,
        "exemplars": {},
    }
    assert [one["owner"] for one in pool["held"]] == [one.owner for one in made.held]
    assert pool["held"][0]["stack"] == list(made.held[0].stack)
    assert pool["held"][0]["in_transaction"] is True
    assert pool["reports"][0]["held"][11]["backend_pid"] == 5011
    assert pool["history"][-1]["unix_time"] == made.history[-1].unix_time


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_null(value: float) -> None:
    """JSON knows neither NaN nor infinity."""
    pool = document(status(held(age_seconds=value), oldest_use_seconds=value))["pools"][0]
    assert pool["held"][0]["age_seconds"] is None
    assert pool["snapshot"]["oldest_use_seconds"] is None


def test_hostile_text_is_ascii_on_the_wire_and_whole_when_read() -> None:
    """Whatever an owner is called, the document is one line of ASCII that gives the same text back."""
    text = "".join(json_pieces([status(*map(held, HOSTILE.values()))]))
    assert text.isascii()
    assert text.count("\n") == 1
    assert "\x1b" not in text
    assert [one["owner"] for one in json.loads(text)["pools"][0]["held"]] == list(HOSTILE.values())


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, "text/html"),
        ("*/*", "text/html"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text/html"),
        ("image/png", "text/html"),
        ("application/json", "application/json"),
        ("APPLICATION/JSON; charset=utf-8", "application/json"),
        ("application/*", "application/json"),
        ("text/html;q=0.5, application/json", "application/json"),
        ("text/html, application/json;q=0.9", "text/html"),
        ("text/html, application/json", "text/html"),
        ("text/*;q=0.1, */*;q=0.5", "application/json"),
        ("application/json;q=0", "text/html"),
        ("application/json;q=high", "text/html"),
        (";;,,;q=", "text/html"),
    ],
)
async def test_the_client_says_what_it_wants(accept: str | None, kind: str) -> None:
    """The Accept header decides between page and JSON by its weights, and caches are told so."""
    headers = [] if accept is None else [("Accept", accept)]
    answer = await ask(page_of(busy()), headers=headers)
    assert (answer.status, answer.headers["vary"]) == (200, "Accept")
    assert answer.headers["content-type"].partition(";")[0] == kind


@pytest.mark.parametrize(
    ("query", "kind"), [("format=json", "application/json"), ("format=html", "text/html")]
)
async def test_the_query_counts_before_the_header(query: str, kind: str) -> None:
    """`?format=` decides, whatever Accept says."""
    for accept in ("text/html", "application/json"):
        answer = await ask(page_of(busy()), query=query, headers=[("Accept", accept)])
        assert answer.headers["content-type"].partition(";")[0] == kind


@pytest.mark.parametrize("query", ["format=xml", "format=json&format=html"])
async def test_a_format_that_there_is_not_is_refused(query: str) -> None:
    """An unknown or contradictory format is a 400 that names both."""
    answer = await ask(page_of(busy()), query=query)
    assert (answer.status, answer.text) == (400, "400 Bad Request: format is html or json\n")


async def test_the_json_is_sent_with_its_length() -> None:
    """The document is sent as it is, with its type and length, and not kept by anyone."""
    answer = await ask(page_of(busy()), query="format=json")
    assert answer.text == "".join(json_pieces([busy()]))
    assert answer.headers["content-length"] == str(len(answer.text))
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
