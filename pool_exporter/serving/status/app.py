"""Serve the status page, its JSON and the metrics as one ASGI application."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from urllib.parse import parse_qs, quote
from weakref import WeakKeyDictionary

from prometheus_client.registry import REGISTRY, CollectorRegistry

from pool_exporter.records import PoolStatus
from pool_exporter.serving.asgi import (
    Answer,
    Receive,
    Scope,
    Send,
    header_values,
    relative_path,
    send_answer,
    with_headers,
)
from pool_exporter.serving.metrics_app import ASGIApplication, metrics_app
from pool_exporter.serving.status.access import checked_token, refusal
from pool_exporter.serving.status.json import json_pieces
from pool_exporter.serving.status.negotiation import wanted_format
from pool_exporter.serving.status.page import CONTENT_SECURITY_POLICY, page_pieces

logger = logging.getLogger("pool_exporter.serving.status")

MAX_REFRESH_SECONDS = 3600
_METRICS_PATHS = frozenset({"/metrics", "/metrics/"})
_PAGE_PATHS = frozenset({"", "/"})
_PROTECTION = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)

StatusSource = Callable[[], Sequence[PoolStatus]]


def status_app(
    source: StatusSource,
    *,
    registry: CollectorRegistry = REGISTRY,
    token: str | None = None,
    refresh_seconds: float = 5,
) -> ASGIApplication:
    """Return an ASGI application with a page that shows who holds the connections of all pools.

    Use it alone, mounted, or as the endpoint of a Starlette or FastAPI route. At the root of where
    it is mounted, with or without a final slash, it serves the page, or with `Accept:
    application/json` or `?format=json` the same as JSON (see `json_pieces`); at /metrics the
    metrics of a registry, as `metrics_app()` does. The page refreshes itself every
    `refresh_seconds`. `source` is called for each answer, in the event loop, and must be quick;
    where it raises, the answer is a 500 and the log says why, once. Needs asyncio.

    Without a `token` only clients on this machine are answered, and none that come through a
    proxy. With one (16 or more printable ASCII characters), whoever shows it as `Authorization:
    Bearer`, or as the password of HTTP Basic, and nobody else; over a network, use TLS.

    Raises `TypeError` or `ValueError` for an argument that cannot be right.
    """
    return _StatusApp(source, registry, checked_token(token), _checked_refresh(refresh_seconds))


class _StatusApp:
    """Answer ASGI scopes; an object and not a function, so that routers pass the scope as it is."""

    def __init__(
        self, source: StatusSource, registry: CollectorRegistry, token: bytes | None, refresh_seconds: float
    ) -> None:
        if not callable(source):
            raise TypeError(f"source={source!r}: expected a callable that returns PoolStatus records")
        self._source = source
        self._metrics = metrics_app(registry)
        self._token = token
        self._refresh_seconds = refresh_seconds
        self._logged: set[type[BaseException]] = set()
        # Per event loop; guards nothing: pages are written one at a time, so that many viewers
        # delay the loop no more than one does.
        self._turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._metrics(scope, receive, send)
            return
        send = with_headers(send, _PROTECTION)
        refused = refusal(scope, self._token)
        if refused is not None:
            await send_answer(send, scope["method"], refused)
        elif self._is_metrics(scope):
            await self._metrics({**scope, "path": "/metrics", "root_path": ""}, receive, send)
        else:
            await send_answer(send, scope["method"], await self._answer(scope))

    def _is_metrics(self, scope: Scope) -> bool:
        path = relative_path(scope)
        return path in _METRICS_PATHS or (
            self._has_own_route(scope) and path.rstrip("/").endswith("/metrics")
        )

    def _has_own_route(self, scope: Scope) -> bool:
        """Tell whether a router's Route led here, so that the path is right, whatever it is.

        Starlette names this object as the endpoint after a Mount too. Newer versions say which
        route it was; for others the router's own routes are looked at.
        """
        if scope.get("endpoint") is not self:
            return False
        router = scope.get("router")
        routes = (scope["route"],) if "route" in scope else getattr(router, "routes", ())
        is_mounted = any(getattr(route, "app", None) is self for route in routes)
        return not is_mounted or any(getattr(route, "endpoint", None) is self for route in routes)

    async def _answer(self, scope: Scope) -> Answer:
        if relative_path(scope) not in _PAGE_PATHS and not self._has_own_route(scope):
            return Answer.plain(HTTPStatus.NOT_FOUND, "the status page is at /, metrics are at /metrics")
        if scope["method"] not in ("GET", "HEAD"):
            return Answer.plain(HTTPStatus.METHOD_NOT_ALLOWED, "use GET or HEAD", ((b"allow", b"GET, HEAD"),))
        asked = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("format")
        form = wanted_format(asked, header_values(scope, b"accept"))
        if form is None:
            return Answer.plain(HTTPStatus.BAD_REQUEST, "format is html or json")
        try:
            return await self._written(scope, form)
        except Exception as error:
            self._log_once(error)
            return Answer.plain(
                HTTPStatus.INTERNAL_SERVER_ERROR, "the pools could not be shown; the process's log says why"
            )

    async def _written(self, scope: Scope, form: str) -> Answer:
        async with self._turns.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
            statuses = tuple(self._source())
            if form == "json":
                body = await _joined(json_pieces(statuses))
                return Answer(HTTPStatus.OK, "application/json", body, ((b"vary", b"Accept"),))
            body = await _joined(
                page_pieces(
                    statuses,
                    now=time.time(),
                    refresh_seconds=self._refresh_seconds,
                    process_id=os.getpid(),
                    metrics_href=None if self._has_own_route(scope) else _metrics_href(scope["path"]),
                )
            )
        headers = (
            (b"vary", b"Accept"),
            (b"content-security-policy", CONTENT_SECURITY_POLICY.encode("ascii")),
        )
        return Answer(HTTPStatus.OK, "text/html; charset=utf-8", body, headers)

    def _log_once(self, error: BaseException) -> None:
        """Log a failure, each kind once; never raises, whatever the log handlers do."""
        if type(error) in self._logged:
            return
        self._logged.add(type(error))
        try:
            # As text: a handler that keeps a traceback keeps the frames' connections alive.
            text = "".join(traceback.format_exception(error)).rstrip()
            logger.error("the status page failed; further failures of this kind are not logged\n%s", text)
        except Exception:  # a log handler may raise; the application must not notice
            return


async def _joined(pieces: Iterator[str]) -> bytes:
    """Return the whole document; the event loop runs between its pieces."""
    written = []
    for piece in pieces:
        written.append(piece.encode())
        await asyncio.sleep(0)
    return b"".join(written)


def _metrics_href(path: str) -> str:
    """Return the way from the page to the metrics, relative to the page's address."""
    last = path.rpartition("/")[2]
    return f"./{quote(last, errors='replace')}/metrics" if last else "./metrics"


def _checked_refresh(seconds: object) -> float:
    advice = f"give a number of seconds from 1 to {MAX_REFRESH_SECONDS}"
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"refresh_seconds={seconds!r}: not a number; {advice}")
    if not (math.isfinite(seconds) and 1 <= seconds <= MAX_REFRESH_SECONDS):
        raise ValueError(f"refresh_seconds={seconds!r}: {advice}")
    return seconds
