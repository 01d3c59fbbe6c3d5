"""Check metrics_app() in frameworks, under load and when cancelled."""

from __future__ import annotations

import asyncio
import collections
import re
from collections.abc import Iterator
from typing import Any

import fastapi
import httpx
import pytest
from prometheus_client import (
    CollectorRegistry,
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
from tests.serving.asgi import Answer, running
from tests.serving.metrics import ACCEPTS, ask, fill, has_the_pool, one_pool

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


def test_uvicorn_serves_it_bare(registry: CollectorRegistry) -> None:
    """Run by uvicorn with nothing around it, it starts, serves the same bytes as prometheus_client, and stops."""
    with running(metrics_app(registry)) as url, httpx.Client() as client:
        answer = client.get(url + "/metrics")
        assert (answer.status_code, answer.headers["content-encoding"]) == (200, "gzip")
        assert answer.content == generate_latest(registry)
        assert client.head(url + "/metrics").status_code == 200
        assert client.get(url + "/else").status_code == 404


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
    with running(metrics_app(registry)) as url:
        async with httpx.AsyncClient(limits=limits, timeout=60) as client:
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
