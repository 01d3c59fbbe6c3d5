"""Check the ASGI application: what it answers, how it is mounted, and that it lets the loop run."""

from __future__ import annotations

import asyncio
import collections
import gzip
import importlib.metadata
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import urlencode

import fastapi
import httpx
import pytest
import uvicorn
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    generate_latest,
    make_asgi_app,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.parser import text_string_to_metric_families
from prometheus_fastapi_instrumentator import Instrumentator
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from pool_exporter.exporters.prometheus import SNAPSHOT_COST, PoolCollector
from pool_exporter.records import PoolSnapshot
from pool_exporter.serving import metrics_app
from pool_exporter.serving.sliced import OPENMETRICS_SLICE_COST, SLICE_COST, render
from tests.exporters.snapshots import snapshot

PROMETHEUS_CLIENT = tuple(
    int(part) for part in importlib.metadata.version("prometheus_client").split(".")[:2]
)
# What Prometheus 2 sends.
PROMETHEUS_ACCEPT = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
ACCEPTS = {
    "none": None,
    "any": "*/*",
    "text": "text/plain; version=0.0.4",
    "text-utf8": "text/plain; version=1.0.0; escaping=allow-utf-8",
    "openmetrics": "application/openmetrics-text; version=1.0.0",
    "openmetrics-dots": "application/openmetrics-text; version=1.0.0; escaping=dots",
    "openmetrics-values": "application/openmetrics-text; version=1.0.0; escaping=values",
    "prometheus-2": PROMETHEUS_ACCEPT,
}
FILTERS: dict[str, list[str]] = {
    "everything": [],
    "gauge": ["sqlalchemy_pool_connections"],
    "parts-of-histograms": ["sqlalchemy_pool_wait_seconds_bucket", "work_seconds_count"],
    "family-without-samples": ["sqlalchemy_pool_size", "sqlalchemy_pool_connections_max"],
    "created-only": ["jobs_created"],
    "foreign-and-ours": ["jobs_total", "sqlalchemy_pool_info", "target_info"],
    "unknown": ["no_such_metric"],
}


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        compressed = self.headers.get("content-encoding") == "gzip"
        return (gzip.decompress(self.body) if compressed else self.body).decode()


async def ask(
    app: Any,
    path: str = "/metrics",
    *,
    method: str = "GET",
    root_path: str = "",
    query: list[tuple[str, str]] | None = None,
    **headers: str | None,
) -> Answer:
    """Send one request straight to an ASGI application."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "root_path": root_path,
        "query_string": urlencode(query or []).encode(),
        "headers": [
            (name.replace("_", "-").encode(), value.encode())
            for name, value in headers.items()
            if value is not None
        ],
    }
    await app(scope, receive, send)
    start, *bodies = sent
    assert start["type"] == "http.response.start"
    assert [message.get("more_body", False) for message in bodies] == [True] * (len(bodies) - 1) + [False]
    return Answer(
        start["status"],
        {name.decode().lower(): value.decode() for name, value in start["headers"]},
        b"".join(message["body"] for message in bodies),
    )


def fill(registry: CollectorRegistry, pools: int) -> None:
    """Register pools among metrics of the application, of which some have more samples than a slice."""
    jobs = Counter("jobs", "Jobs done.\nSecond line, with a \\ backslash.", ["kind"], registry=registry)
    for number in range(3 * SLICE_COST):
        jobs.labels(f"kind {number}").inc(number, {"trace_id": "abc"} if number % 7 == 0 else None)
    registry.register(
        PoolCollector(lambda: (snapshot(f"pool{n}", max=None, size=None) for n in range(pools)))
    )
    Gauge("temperature_celsius", "A name without labels.", registry=registry).set(21.5)
    work = Histogram("work_seconds", "Time worked.", ["who"], registry=registry, buckets=[0.1, 1, 10])
    for number in range(SLICE_COST):
        work.labels(str(number)).observe(number / 10)
    Gauge("temp.utf8", "A name that needs escaping.", ["label.utf8"], registry=registry).labels("é").set(1)
    Info("build", "Labels only.", registry=registry).info({"version": "1"})


@pytest.fixture(scope="module")
def registry() -> CollectorRegistry:
    registry = CollectorRegistry(target_info={"env": "test"})
    fill(registry, pools=23)
    return registry


def one_pool() -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(PoolCollector(lambda: [snapshot("orders")]))
    return registry


def has_the_pool(text: str) -> bool:
    return 'sqlalchemy_pool_connections{pool="orders",state="used"} 6.0\n' in text


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


# Frameworks and servers


def client_of(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


async def assert_both_paths_answer(app: Any) -> None:
    async with client_of(app) as client:
        for path in ("/metrics", "/metrics/"):
            answer = await client.get(path)
            assert (path, answer.status_code) == (path, 200)
            assert has_the_pool(answer.text)
            assert (await client.head(path)).status_code == 200
            assert (await client.post(path)).status_code == 405


@pytest.mark.parametrize("framework", [Starlette, fastapi.FastAPI])
async def test_added_as_routes_both_paths_answer(framework: Any) -> None:
    """Added to an application at /metrics and /metrics/, both answer 200 and nothing redirects."""
    app = framework()
    metrics = metrics_app(one_pool())
    for path in ("/metrics", "/metrics/"):
        app.add_route(path, metrics)
    await assert_both_paths_answer(app)


async def test_given_as_routes_both_paths_answer() -> None:
    """Given to Starlette in its list of routes, both paths answer 200."""
    metrics = metrics_app(one_pool())
    await assert_both_paths_answer(
        Starlette(routes=[Route("/metrics", metrics), Route("/metrics/", metrics)])
    )


async def test_routes_leave_the_rest_of_the_application_alone() -> None:
    """Added as routes, the metrics neither hide a later route that begins alike nor enter FastAPI's schema."""
    app = fastapi.FastAPI()
    for path in ("/metrics", "/metrics/"):
        app.add_route(path, metrics_app(one_pool()))

    @app.get("/metrics-of-business")
    async def business() -> str:
        return "42"

    async with client_of(app) as client:
        assert (await client.get("/metrics-of-business")).text == '"42"'
    assert list(app.openapi()["paths"]) == ["/metrics-of-business"]


@pytest.mark.parametrize("framework", [Starlette, fastapi.FastAPI])
@pytest.mark.parametrize(
    ("mount", "path"),
    [("/metrics", "/metrics/"), ("/internal", "/internal/metrics"), ("/internal", "/internal/")],
)
async def test_mounted_it_answers_below_the_mount(framework: Any, mount: str, path: str) -> None:
    """A plain mount serves its root with a slash, and /metrics below it."""
    app = framework()
    app.mount(mount, metrics_app(one_pool()))
    async with client_of(app) as client:
        answer = await client.get(path)
        assert answer.status_code == 200
        assert has_the_pool(answer.text)


async def test_behind_a_prefix_and_in_nested_mounts_it_answers() -> None:
    """Inside a mounted application, itself behind a proxy's prefix, routes still lead to the metrics."""
    metrics = metrics_app(one_pool())
    inner = Starlette(routes=[Route("/metrics", metrics)])
    app = fastapi.FastAPI(routes=[Mount("/inner", inner)])
    transport = httpx.ASGITransport(app, root_path="/prefix")
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get("/prefix/inner/metrics")
        assert answer.status_code == 200
        assert has_the_pool(answer.text)


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    """Run a real uvicorn in this loop and give its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, lifespan="on", log_level="critical", ws="none"))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


async def test_uvicorn_serves_it_bare(registry: CollectorRegistry) -> None:
    """Run by uvicorn with nothing around it, it starts, serves the same bytes as prometheus_client, and stops."""
    async with served(metrics_app(registry)) as url, httpx.AsyncClient() as client:
        answer = await client.get(url + "/metrics")
        assert (answer.status_code, answer.headers["content-encoding"]) == (200, "gzip")
        assert answer.content == generate_latest(registry)
        assert (await client.head(url + "/metrics")).status_code == 200
        assert (await client.get(url + "/else")).status_code == 404


async def test_fastapi_instrumentator_exposes_the_pools_too() -> None:
    """prometheus-fastapi-instrumentator on the same registry shows the pools on its own endpoint."""
    registry = one_pool()
    app = fastapi.FastAPI()
    Instrumentator(registry=registry).instrument(app).expose(app)
    async with client_of(app) as client:
        assert has_the_pool((await client.get("/metrics")).text)


async def test_prometheus_clients_own_app_exposes_the_pools_too() -> None:
    """prometheus_client's make_asgi_app on the same registry shows the pools."""
    assert has_the_pool((await ask(make_asgi_app(one_pool()))).text)


# The event loop


@pytest.mark.parametrize("accept", ["", ACCEPTS["openmetrics"]])
def test_no_slice_holds_more_than_its_share(registry: CollectorRegistry, accept: str) -> None:
    """Each slice of the text holds at most as many samples as a slice may cost."""
    encoder, _ = choose_encoder(accept)
    slices = list(render(registry, encoder, openmetrics=bool(accept)))
    lines = [len(re.findall(rb"^[^#\n]", text, re.MULTILINE)) for text in slices]
    limit = OPENMETRICS_SLICE_COST if accept else SLICE_COST
    assert max(lines) <= limit
    assert len(slices) >= sum(lines) / limit


@pytest.mark.parametrize("names", [[], ["sqlalchemy_pool_size"]])
async def test_the_loop_runs_while_snapshots_are_taken_and_rendered(names: list[str]) -> None:
    """Another task gets a turn after every few snapshots and after every slice of the text."""
    turns = 0
    pulled_at: collections.Counter[int] = collections.Counter()
    finished = False

    def source() -> Iterator[PoolSnapshot]:
        for number in range(100):
            pulled_at[turns] += 1
            yield snapshot(f"pool{number}", size=None)

    async def other_task() -> None:
        nonlocal turns
        while not finished:
            turns += 1
            await asyncio.sleep(0)

    registry = CollectorRegistry()
    registry.register(PoolCollector(source))
    other = asyncio.create_task(other_task())
    answer = await ask(metrics_app(registry), query=[("name[]", name) for name in names])
    finished = True
    await other
    assert pulled_at.total() == 100
    # The first slice goes out when the piece after it has been made, so before it there are two.
    assert max(pulled_at.values()) <= 2 * (SLICE_COST // SNAPSHOT_COST) + 1
    samples = sum(len(family.samples) for family in text_string_to_metric_families(answer.text))
    assert turns >= samples / SLICE_COST


async def test_a_hundred_scrapes_at_once_are_all_answered() -> None:
    """Of a hundred concurrent scrapes through a real server each gets the complete text."""
    registry = CollectorRegistry()
    fill(registry, pools=5)
    limits = httpx.Limits(max_connections=100)
    async with served(metrics_app(registry)) as url, httpx.AsyncClient(limits=limits, timeout=60) as client:
        answers = await asyncio.gather(*(client.get(url + "/metrics") for _ in range(100)))
    expected = generate_latest(registry)
    assert [answer.content == expected for answer in answers] == [True] * 100


async def test_scrapes_at_once_render_one_after_the_other() -> None:
    """Concurrent scrapes take turns, so that a turn of the loop renders one slice, however many scrape."""
    active = 0
    overlaps = []

    def source() -> Iterator[PoolSnapshot]:
        nonlocal active
        active += 1
        overlaps.append(active)
        for number in range(20):
            yield snapshot(f"pool{number}")
        active -= 1

    registry = CollectorRegistry()
    registry.register(PoolCollector(source))
    app = metrics_app(registry)
    await asyncio.gather(*(ask(app) for _ in range(5)))
    assert overlaps == [1, 1, 1, 1, 1]


def test_one_app_serves_one_loop_after_the_other() -> None:
    """An application that outlives its event loop, as in tests, serves concurrent scrapes in the next one."""
    app = metrics_app(one_pool())

    async def scrapes() -> list[Answer]:
        return await asyncio.gather(*(ask(app) for _ in range(3)))

    for _ in range(2):
        assert all(has_the_pool(answer.text) for answer in asyncio.run(scrapes()))


async def test_a_cancelled_scrape_lets_the_next_one_in() -> None:
    """A scrape that is cancelled while it renders gives its turn back."""
    app = metrics_app(one_pool())
    first = asyncio.create_task(ask(app))
    second = asyncio.create_task(ask(app))
    await asyncio.sleep(0)
    first.cancel()
    assert has_the_pool((await second).text)
    with pytest.raises(asyncio.CancelledError):
        await first


@pytest.mark.parametrize("path", ["/internal/metrics", "/prom/"])
async def test_a_route_of_any_path_answers(path: str) -> None:
    """As the endpoint of a route it answers at the route's path, whatever that is."""
    app = Starlette()
    app.add_route(path, metrics_app(CollectorRegistry()))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        assert (await client.get(path)).status_code == 200


def test_what_is_no_registry_is_refused_at_once() -> None:
    """An engine, a text or None in place of a registry is an error that says what is expected."""
    for wrong in ("x", None, object()):
        with pytest.raises(TypeError, match=r"registry=.*CollectorRegistry"):
            metrics_app(wrong)  # type: ignore[arg-type]  # wrong on purpose
