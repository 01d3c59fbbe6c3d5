"""Check what metrics_app() answers, against prometheus_client's own."""

from __future__ import annotations

import asyncio
import importlib.metadata
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import (
    CollectorRegistry,
    make_asgi_app,
)
from prometheus_client.exposition import choose_encoder

from pool_exporter.exporters.prometheus import PoolCollector
from pool_exporter.serving import metrics_app
from pool_exporter.serving.sliced import render
from tests.serving.metrics import ACCEPTS, PROMETHEUS_ACCEPT, ask, fill, has_the_pool, one_pool

PROMETHEUS_CLIENT = tuple(
    int(part) for part in importlib.metadata.version("prometheus_client").split(".")[:2]
)


FILTERS: dict[str, list[str]] = {
    "everything": [],
    "gauge": ["sqlalchemy_pool_connections"],
    "parts-of-histograms": ["sqlalchemy_pool_wait_seconds_bucket", "work_seconds_count"],
    "family-without-samples": ["sqlalchemy_pool_size", "sqlalchemy_pool_connections_max"],
    "created-only": ["jobs_created"],
    "foreign-and-ours": ["jobs_total", "sqlalchemy_pool_info", "target_info"],
    "unknown": ["no_such_metric"],
}


# Answers


@pytest.mark.parametrize("names", FILTERS.values(), ids=FILTERS)
@pytest.mark.parametrize("encoding", [None, "gzip, deflate"])
@pytest.mark.parametrize("accept", ACCEPTS.values(), ids=ACCEPTS)
async def test_answers_equal_those_of_prometheus_client(
    registry: CollectorRegistry, accept: str | None, encoding: str | None, names: list[str]
) -> None:
    """Status, content type, encoding and every byte of the text are those of make_asgi_app."""
    if names and PROMETHEUS_CLIENT < (0, 23):
        pytest.skip("make_asgi_app heeds name[] since prometheus_client 0.23")
    query = [("name[]", name) for name in names]
    theirs = await ask(make_asgi_app(registry), query=query, accept=accept, accept_encoding=encoding)
    ours = await ask(metrics_app(registry), query=query, accept=accept, accept_encoding=encoding)
    assert ours.text == theirs.text
    assert (ours.status, ours.headers) == (200, {**theirs.headers, "content-length": str(len(ours.body))})
    assert ours.headers.get("content-encoding") == (None if encoding is None else "gzip")


@pytest.mark.parametrize("pools", [0, 1])
@pytest.mark.parametrize("accept", ACCEPTS.values(), ids=ACCEPTS)
async def test_few_pools_are_answered_as_by_prometheus_client(pools: int, accept: str | None) -> None:
    """Without any pool, and with one, the text equals that of make_asgi_app too."""
    registry = CollectorRegistry()
    fill(registry, pools)
    theirs = await ask(make_asgi_app(registry), accept=accept)
    ours = await ask(metrics_app(registry), accept=accept)
    assert ours.body == theirs.body


@pytest.mark.parametrize("slice_cost", [1, 3, 40, 10**6])
@pytest.mark.parametrize("accept", ["", ACCEPTS["openmetrics"]])
def test_the_size_of_slices_does_not_change_the_text(
    registry: CollectorRegistry, accept: str, slice_cost: int
) -> None:
    """However it is cut, the rendered text is what prometheus_client's encoder writes at once."""
    encoder, _ = choose_encoder(accept)
    slices = render(registry, encoder, openmetrics=bool(accept), slice_cost=slice_cost)
    assert b"".join(slices) == encoder(registry)


async def test_several_accept_headers_count_as_one(registry: CollectorRegistry) -> None:
    """Repeated Accept and Accept-Encoding headers are joined, as HTTP says."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request"}

    headers = [
        (b"accept", b"text/html"),
        (b"Accept", b"application/openmetrics-text; version=1.0.0"),
        (b"accept-encoding", b"br"),
        (b"Accept-Encoding", b"gzip"),
    ]
    scope = {"type": "http", "method": "GET", "path": "/metrics", "headers": headers}
    await metrics_app(registry)(scope, receive, send)
    answer = dict(sent[0]["headers"])
    assert answer[b"content-type"].startswith(b"application/openmetrics-text; version=1.0.0")
    assert answer[b"content-encoding"] == b"gzip"


async def test_compression_can_be_turned_off() -> None:
    """With disable_compression=True a client that accepts gzip gets plain text."""
    answer = await ask(metrics_app(one_pool(), disable_compression=True), accept_encoding="gzip")
    assert "content-encoding" not in answer.headers
    assert has_the_pool(answer.body.decode())


@pytest.mark.parametrize(
    "accept", ["text/plain; version=latest", "application/openmetrics-text; version=x.y"]
)
async def test_a_senseless_version_is_no_error(accept: str) -> None:
    """A client that asks for a version that is no number is answered in a format all the same, not with a 500."""
    answer = await ask(metrics_app(one_pool()), accept=accept)
    assert answer.status == 200
    assert has_the_pool(answer.text)


@pytest.mark.parametrize(
    ("root_path", "path"),
    [
        ("", ""),
        ("", "/"),
        ("", "/metrics"),
        ("", "/metrics/"),
        ("/metrics", "/metrics"),
        ("/metrics", "/metrics/"),
        ("/metrics/", "/metrics/"),
        ("/internal/", "/internal/metrics"),
        ("/internal", "/internal/metrics"),
        ("/internal", "/metrics"),  # a server that strips the prefix from the path
        ("/me", "/metrics"),
    ],
)
async def test_metrics_are_at_the_root_and_at_metrics(root_path: str, path: str) -> None:
    """Below wherever the application is mounted, its root and /metrics answer, with or without a slash."""
    answer = await ask(metrics_app(one_pool()), path, root_path=root_path)
    assert answer.status == 200
    assert has_the_pool(answer.text)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize(
    ("root_path", "path"),
    [
        ("", "/favicon.ico"),
        ("", "/metrics/x"),
        ("", "/metricsx"),
        ("/metrics", "/metricsx"),
        ("/in", "/internal"),
    ],
)
async def test_other_paths_are_not_found(root_path: str, path: str, method: str) -> None:
    """Nothing but the metrics is served, and the answer says where they are."""
    answer = await ask(metrics_app(one_pool()), path, root_path=root_path, method=method)
    body = "" if method == "HEAD" else "404 Not Found: metrics are at /metrics\n"
    assert (answer.status, answer.text) == (404, body)
    assert answer.headers["content-length"] == "39"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_other_methods_are_not_allowed(method: str) -> None:
    """A method other than GET and HEAD is answered with 405 and the methods that are allowed."""
    answer = await ask(metrics_app(one_pool()), method=method)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
    assert answer.text == "405 Method Not Allowed: use GET or HEAD\n"


async def test_head_has_the_headers_without_a_scrape() -> None:
    """HEAD tells type and encoding as GET does, with no body and without taking a snapshot."""
    registry = CollectorRegistry()
    registry.register(PoolCollector(lambda: pytest.fail("a snapshot was taken")))
    answer = await ask(metrics_app(registry), method="HEAD", accept=PROMETHEUS_ACCEPT, accept_encoding="gzip")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")


async def test_a_collector_that_raises_is_no_truncated_answer() -> None:
    """Nothing is sent before everything is rendered, so that the server can still answer 500."""

    class Broken:
        def collect(self) -> Iterator[Any]:
            raise RuntimeError("broken collector")

    registry = one_pool()
    registry.register(Broken())
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/metrics", "headers": []}
    app = metrics_app(registry)
    for _ in range(2):  # the turn is given back
        with pytest.raises(RuntimeError, match="broken collector"):
            await app(scope, asyncio.Event().wait, send)
    assert sent == []


async def test_lifespan_is_answered() -> None:
    """A server that runs the application alone hears that startup and shutdown are complete."""
    incoming = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(incoming)

    async def send(message: Any) -> None:
        sent.append(message)

    await metrics_app(one_pool())({"type": "lifespan"}, receive, send)
    assert sent == [{"type": "lifespan.startup.complete"}, {"type": "lifespan.shutdown.complete"}]


async def test_websockets_are_refused() -> None:
    """A websocket is closed before it is accepted."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await metrics_app(one_pool())({"type": "websocket", "path": "/metrics"}, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]
