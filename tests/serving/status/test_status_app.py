"""Check the application of the status page: paths, methods, headers and faults."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import fastapi
import httpx
import pytest
from prometheus_client import CollectorRegistry, Gauge
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from pool_exporter.records import PoolStatus
from pool_exporter.serving.status.app import status_app
from tests.serving.asgi import ask, running
from tests.serving.status.records import (
    busy,
)
from tests.serving.status.serving import page_of

# Where it answers


def metrics_registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    Gauge("temperature_celsius", "How warm it is.", registry=registry).set(21)
    return registry


def application() -> Any:
    return status_app(lambda: [busy()], registry=metrics_registry())


@pytest.mark.parametrize(
    ("root_path", "path", "href"),
    [
        ("", "", "./metrics"),
        ("", "/", "./metrics"),
        ("/pools", "/pools", "./pools/metrics"),
        ("/pools", "/pools/", "./metrics"),
        ("/a b/", "/a b", "./a%20b/metrics"),
        ("/pools", "/", "./metrics"),
    ],
)
async def test_the_page_is_at_the_root_and_knows_the_way_to_the_metrics(
    root_path: str, path: str, href: str
) -> None:
    """With or without a prefix or a final slash the page answers, and its link leads to the metrics."""
    answer = await ask(application(), path, root_path=root_path)
    assert answer.status == 200
    assert f'<a href="{href}">Metrics</a>' in answer.text


@pytest.mark.parametrize(
    ("root_path", "path"),
    [("", "/metrics"), ("", "/metrics/"), ("/pools", "/pools/metrics"), ("/pools", "/metrics")],
)
async def test_the_metrics_are_beside_the_page(root_path: str, path: str) -> None:
    """Below wherever it is mounted, /metrics has the metrics of the registry, protected like the page."""
    answer = await ask(application(), path, root_path=root_path)
    assert answer.status == 200
    assert "temperature_celsius 21.0\n" in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize(
    ("root_path", "path"),
    [("", "/favicon.ico"), ("", "/metrics/x"), ("", "//"), ("/po", "/pools"), ("/pools", "/pools/x")],
)
async def test_other_paths_are_not_found(root_path: str, path: str, method: str) -> None:
    """Nothing else is served, and the answer says what is."""
    answer = await ask(application(), path, root_path=root_path, method=method)
    body = "" if method == "HEAD" else "404 Not Found: the status page is at /, metrics are at /metrics\n"
    assert (answer.status, answer.text) == (404, body)


@pytest.mark.parametrize("path", ["/", "/metrics"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_other_methods_are_not_allowed(method: str, path: str) -> None:
    """A method other than GET and HEAD is answered with 405 and the methods that are allowed."""
    answer = await ask(application(), path, method=method)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("query", ["", "format=json"])
async def test_head_has_the_headers_without_the_body(query: str) -> None:
    """HEAD tells type and length as GET does."""
    source = page_of()
    answer, head = await ask(source, query=query), await ask(source, query=query, method="HEAD")
    assert (head.status, head.text, head.headers) == (200, "", answer.headers)


def client_of(app: Any, **options: Any) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, **options)
    return httpx.AsyncClient(transport=transport, base_url="http://localhost", follow_redirects=True)


async def assert_all_answer(client: httpx.AsyncClient, page_path: str, metrics_path: str) -> None:
    answer = await client.get(page_path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    asked = await client.get(page_path, headers={"Accept": "application/json"})
    assert asked.json()["pools"][0]["name"] == "reports"
    assert "temperature_celsius" in (await client.get(metrics_path)).text
    assert (await client.post(page_path)).status_code == 405


@pytest.mark.parametrize("framework", [Starlette, fastapi.FastAPI])
@pytest.mark.parametrize("mount", ["/pools", "/a/b", ""])
async def test_mounted_it_answers_below_the_mount(framework: Any, mount: str) -> None:
    """A mount serves the page with or without a slash, JSON at the same address, and the metrics below."""
    app = framework()
    app.mount(mount, application())
    async with client_of(app) as client:
        await assert_all_answer(client, mount + "/", mount + "/metrics")
        assert (await client.get(mount or "/")).status_code == 200
        assert (await client.get(mount + "/x")).status_code == 404


@pytest.mark.parametrize("framework", [Starlette, fastapi.FastAPI])
async def test_added_as_routes_it_answers_at_any_path(framework: Any) -> None:
    """As the endpoint of routes it answers at their paths, nothing redirects, and no link leads astray."""
    app, pools = framework(), application()
    for path in ("/internal/pools", "/internal/pools/metrics"):
        app.add_route(path, pools)
    async with client_of(app) as client:
        answer = await client.get("/internal/pools")
        assert answer.history == []
        assert ">Metrics<" not in answer.text
        assert "temperature_celsius" in (await client.get("/internal/pools/metrics")).text
        assert (await client.post("/internal/pools")).status_code == 405


async def test_behind_a_prefix_and_in_nested_mounts_it_answers() -> None:
    """Inside a mounted application, itself behind a prefix, the page and the metrics are found."""
    inner = Starlette(routes=[Mount("/pools", application())])
    app = fastapi.FastAPI(routes=[Mount("/inner", inner), Route("/pools", application())])
    async with client_of(app, root_path="/prefix") as client:
        await assert_all_answer(client, "/prefix/inner/pools/", "/prefix/inner/pools/metrics")
        assert (await client.get("/prefix/inner/pools/x")).status_code == 404
        assert (await client.get("/prefix/pools")).status_code == 200


def test_uvicorn_serves_it_bare() -> None:
    """Run by uvicorn with nothing around it, it starts, answers page, JSON, metrics and HEAD, and stops."""
    with running(application()) as url, httpx.Client(base_url=url) as client:
        assert "<title>Connection pools</title>" in client.get("/").text
        assert client.get("/?format=json").json()["pools"][0]["name"] == "reports"
        assert "temperature_celsius" in client.get("/metrics").text
        assert client.head("/").status_code == 200
        assert client.get("/", headers={"Host": "evil.example"}).status_code == 403


async def test_lifespan_and_websockets_are_answered() -> None:
    """A server that runs it alone hears that startup is complete; a websocket is closed."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message["type"])

    incoming = iter(
        [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}, {"type": "websocket.connect"}]
    )

    async def receive() -> Any:
        return next(incoming)

    await application()({"type": "lifespan"}, receive, send)
    await application()({"type": "websocket", "path": "/"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete", "websocket.close"]


# What it survives


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("query", ["", "format=json"])
async def test_a_source_that_raises_is_a_500_without_details(
    query: str, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the source raises, the answer has no details, the log has them once, and the next kind again."""
    errors = iter([RuntimeError("secret one"), RuntimeError("secret two"), KeyError("other")])

    def source() -> list[PoolStatus]:
        raise next(errors)

    app = status_app(source, registry=CollectorRegistry())
    for logged in (1, 1, 2):
        answer = await ask(app, query=query, method=method)
        body = "500 Internal Server Error: the pools could not be shown; the process's log says why\n"
        assert (answer.status, answer.text) == (500, "" if method == "HEAD" else body)
        assert len(caplog.records) == logged
    assert "secret one" in caplog.text
    assert "secret two" not in caplog.text


async def test_a_log_handler_that_raises_changes_nothing() -> None:
    """The answer is a 500 even where the log cannot be written."""

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError("disk full")

    handler, logger = Broken(), logging.getLogger("pool_exporter.serving.status")
    logger.addHandler(handler)
    try:
        answer = await ask(status_app(lambda: 1 / 0, registry=CollectorRegistry()))  # type: ignore[arg-type,return-value]  # wrong on purpose
    finally:
        logger.removeHandler(handler)
    assert answer.status == 500


async def test_the_source_is_asked_for_each_page_and_for_nothing_else() -> None:
    """Page and JSON each ask the source once; metrics, refusals and other paths never do."""
    asked = 0

    def source() -> list[PoolStatus]:
        nonlocal asked
        asked += 1
        return []

    app = status_app(source, registry=CollectorRegistry())
    await ask(app, "/metrics")
    await ask(app, "/else")
    await ask(app, method="POST")
    await ask(app, client=None)
    assert asked == 0
    await ask(app)
    await ask(app, query="format=json")
    assert asked == 2


@pytest.mark.parametrize("query", ["", "format=json"])
async def test_the_loop_runs_while_a_page_is_written(query: str) -> None:
    """Another task gets a turn for each pool and more, however many viewers there are."""
    turns = 0
    finished = False

    async def other_task() -> None:
        nonlocal turns
        while not finished:
            turns += 1
            await asyncio.sleep(0)

    app = page_of(*[busy()] * 50)
    other = asyncio.create_task(other_task())
    await asyncio.gather(*(ask(app, query=query) for _ in range(4)))
    finished = True
    await other
    assert turns >= 4 * 50


def test_one_app_serves_one_loop_after_the_other() -> None:
    """An application that outlives its event loop serves several viewers in the next one."""
    app = page_of(busy())

    async def viewers() -> list[int]:
        return [answer.status for answer in await asyncio.gather(*(ask(app) for _ in range(3)))]

    for _ in range(2):
        assert asyncio.run(viewers()) == [200, 200, 200]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"source": None}, TypeError, "source=None: expected a callable"),
        ({"registry": "x"}, TypeError, "registry='x': expected a prometheus_client CollectorRegistry"),
        ({"refresh_seconds": "5"}, TypeError, "refresh_seconds='5': not a number"),
        ({"refresh_seconds": True}, TypeError, "refresh_seconds=True: not a number"),
        ({"refresh_seconds": 0}, ValueError, "refresh_seconds=0: give a number of seconds from 1 to 3600"),
        ({"refresh_seconds": float("nan")}, ValueError, "refresh_seconds=nan: give a number"),
        ({"refresh_seconds": 4000}, ValueError, "refresh_seconds=4000: give a number"),
    ],
)
def test_bad_arguments_are_refused_at_once(
    arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    """An argument that cannot be right is an error that names it, its value and what would be."""
    make: Callable[..., Any] = status_app
    with pytest.raises(error, match=words):
        make(**{"source": list, **arguments})
