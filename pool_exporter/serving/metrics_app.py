"""Serve /metrics as an ASGI application that does not hold the event loop."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs
from weakref import WeakKeyDictionary

from prometheus_client.exposition import choose_encoder, gzip_accepted
from prometheus_client.registry import REGISTRY, Collector, CollectorRegistry

from pool_exporter.serving.registries import registry_to_serve
from pool_exporter.serving.sliced import Encoder, Families, render

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# Loose on purpose: Starlette's add_route is typed for handlers of a Request, though it takes
# ASGI applications too, and users' type checkers should accept both that and a mount.
ASGIApplication = Callable[..., Awaitable[Any]]

_PATHS = frozenset({"", "/", "/metrics", "/metrics/"})
_CHUNK_BYTES = 65536
_GZIP = zlib.MAX_WBITS + 16
_GZIP_LEVEL = 6  # prometheus_client's 9 takes far longer on this text and saves almost nothing


def metrics_app(
    registry: CollectorRegistry = REGISTRY, *, disable_compression: bool = False
) -> ASGIApplication:
    """Return an ASGI application that serves the metrics of a registry, and nothing else.

    Use it alone, mounted, or as the endpoint of a Starlette or FastAPI route. GET and HEAD answer
    at the root of where it is mounted and at /metrics, each with or without a final slash, and at
    whatever path a route of its own has. Format
    (Prometheus text or OpenMetrics, by Accept), gzip (by Accept-Encoding, unless
    `disable_compression`) and `name[]` filters are those of prometheus_client's `make_asgi_app`.
    The text is rendered in slices of about a quarter of a millisecond, between which the event loop runs,
    and by one scrape at a time. Needs asyncio.

    In prometheus_client's multi-process mode (`PROMETHEUS_MULTIPROC_DIR`) the default registry stands
    for the metrics of all processes that share the directory, the application's own included.
    """
    return _MetricsApp(registry, disable_compression=disable_compression)


class _MetricsApp:
    """Answer ASGI scopes; an object and not a function, so that routers pass the scope as it is."""

    def __init__(self, registry: CollectorRegistry, *, disable_compression: bool) -> None:
        self._registry, self._merging = registry_to_serve(registry)
        self._compress = not disable_compression
        # Per event loop, since an application may be run by one after the other. Guards nothing:
        # scrapes take turns, so that a hundred at once delay the loop no more than one does.
        self._turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._answer(scope, send)
        elif scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})

    async def _answer(self, scope: Scope, send: Send) -> None:
        method = scope["method"]
        # A router that has this very object as its endpoint has matched the path already.
        if scope.get("endpoint") is not self and _relative_path(scope) not in _PATHS:
            await _refuse(send, method, HTTPStatus.NOT_FOUND, "metrics are at /metrics")
            return
        if method not in ("GET", "HEAD"):
            await _refuse(send, method, HTTPStatus.METHOD_NOT_ALLOWED, "use GET or HEAD")
            return
        encoder, content_type = _negotiate(_header(scope, b"accept"))
        headers = [(b"content-type", content_type.encode("latin-1"))]
        compress = self._compress and gzip_accepted(_header(scope, b"accept-encoding"))
        if compress:
            headers.append((b"content-encoding", b"gzip"))
        if method == "HEAD":
            await _start(send, HTTPStatus.OK, headers)
            await send({"type": "http.response.body", "body": b""})
            return
        names = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("name[]")
        chunks = await self._rendered(encoder, names, content_type, compress)
        headers.append((b"content-length", b"%d" % sum(map(len, chunks))))
        await _start(send, HTTPStatus.OK, headers)
        # Begun only now, so that a collector that raises is a 500 and no truncated 200, and so
        # that a slow client does not hold up other scrapes.
        for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b""})

    async def _rendered(
        self, encoder: Encoder, names: list[str] | None, content_type: str, compress: bool
    ) -> list[bytes]:
        collector: Collector = self._registry if names is None else self._registry.restricted_registry(names)
        chunks: list[bytes] = []
        chunk = bytearray()
        async with self._turns.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
            if self._merging:  # which reads files, and takes its time
                collector = Families(*await asyncio.to_thread(lambda: list(collector.collect())))
            slices = render(
                collector,
                encoder,
                openmetrics=content_type.startswith("application/openmetrics-text"),
                restricted=names is not None,
            )
            if compress:
                slices = _gzipped(slices)
            for text in slices:
                chunk += text
                if len(chunk) >= _CHUNK_BYTES:
                    chunks.append(bytes(chunk))
                    chunk.clear()
                await asyncio.sleep(0)
        chunks.append(bytes(chunk))
        return chunks


def _gzipped(slices: Iterator[bytes]) -> Iterator[bytes]:
    compressor = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP)
    for text in slices:
        yield compressor.compress(text)
    yield compressor.flush()


def _relative_path(scope: Scope) -> str:
    """Return the path below `root_path`, which a server may or may not have put in front of it."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    return path.removeprefix(root) if path == root or path.startswith(root + "/") else path


def _header(scope: Scope, name: bytes) -> str:
    values = (value for key, value in scope["headers"] if key.lower() == name)
    return b",".join(values).decode("latin-1")


def _negotiate(accept: str) -> tuple[Encoder, str]:
    try:
        return choose_encoder(accept)
    except TypeError:  # a version that is no number, such as version=latest
        return choose_encoder("")


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _start(send: Send, status: HTTPStatus, headers: list[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": int(status), "headers": headers})


async def _refuse(send: Send, method: str, status: HTTPStatus, remedy: str) -> None:
    body = f"{status.value} {status.phrase}: {remedy}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers.append((b"allow", b"GET, HEAD"))
    await _start(send, status, headers)
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})
