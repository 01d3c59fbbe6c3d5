"""Name the request that is being served, by its route, for Starlette, FastAPI and Litestar."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from pool_exporter.capture.callers.owner import CURRENT, Work
from pool_exporter.support.environment import disabled

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

METHODS = frozenset(("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"))
"""The methods that a name may have. A client can send any other word, which becomes `OTHER`."""
WRAPPERS = 20
"""How many middlewares around an application are looked through for its routes, at most."""


class OwnerMiddleware:
    """Make the route of the request the owner of the connections acquired while it is served.

    The owner is the route's template with the method, such as `POST /orders/{id}` or `WS /chat/{room}`,
    in the endpoint and in dependencies, other middlewares, streamed responses, background tasks and
    tasks started meanwhile. A request that no route matches has no such owner, nor has one in an
    application without routes: its raw path would make a label of every address that is probed.

    Add it last (`app.add_middleware(OwnerMiddleware)`), so that other middlewares are within, or put it
    around the application (`app = OwnerMiddleware(app)`). Within, `owner("name")` names a part of the
    work otherwise. With `POOL_EXPORTER_DISABLED=1` when it is made, it does nothing.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._named = () if disabled() else ("http", "websocket")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in self._named:
            await self.app(scope, receive, send)
            return
        token = CURRENT.set(_Request(scope, self.app))
        try:
            await self.app(scope, receive, send)
        finally:
            # Another context may end a request that was never finished: the collector's, for one.
            with suppress(ValueError):
                CURRENT.reset(token)


class _Request(Work):
    """A request being served, whose route is looked for when a connection is acquired, not before."""

    __slots__ = ("_app", "_label", "_path", "_scope")

    def __init__(self, scope: Scope, app: ASGIApp) -> None:
        self._scope: Scope | None = scope  # None once the label is settled: a task may outlive the request
        self._path: str = scope.get("path", "")
        self._app = app
        self._label: str | None = None

    def label(self) -> str | None:
        """Return the method and the route's template, None while no route is known."""
        scope = self._scope
        if scope is None:
            return self._label
        found = self._find(scope)
        label = None if found is None else f"{_verb(scope)} {found.template}"
        # What is not found before the router has been there may yet be: the path may be rewritten.
        if found.whole if found is not None else "endpoint" in scope:
            self._label = label
            self._scope = None
        return label

    def _find(self, scope: Scope) -> _Found | None:
        # Litestar (2.25) leaves it empty where it has another application mounted.
        template: str = scope.get("path_template") or ""
        if not template:
            return self._matched(scope)
        outer = self._matched(scope) if _is_mounted(scope) else None
        prefix = "" if outer is None or outer.whole else outer.prefix
        return _Found(prefix + template, whole=True)

    def _matched(self, scope: Scope) -> _Found | None:
        for routes in self._routes(scope):
            # Routers match the path on entry, unless a middleware in between rewrites it. It may also
            # have been rewritten after they matched it, by an application that is mounted.
            for path in dict.fromkeys((self._path, scope.get("path", ""))):
                found = _match(routes, _as_on_entry(scope, path))
                if found is not None:
                    return found
        return None

    def _routes(self, scope: Scope) -> Iterator[Iterable[Any]]:
        """Yield the chosen route where it is known, which saves looking at all others, then all routes."""
        route = scope.get("route")
        if hasattr(route, "matches") and not _is_mounted(scope):
            # FastAPI's `route` does not know the prefix under which its router was included.
            context = scope.get("fastapi", {}).get("effective_route_context")
            yield [context if getattr(context, "original_route", None) is route else route]
        yield _routes_of(scope.get("router") or scope.get("app") or self._app) or ()


class _Found(NamedTuple):
    """A route's template; not `whole` where it is that of a mounted application without known routes."""

    template: str
    whole: bool

    @property
    def prefix(self) -> str:
        return self.template.removesuffix("/{path}")


def _verb(scope: Scope) -> str:
    if scope["type"] == "websocket":
        return "WS"
    method: str = scope.get("method", "")
    return method if method in METHODS else "OTHER"


def _is_mounted(scope: Scope) -> bool:
    """Tell whether a Mount of Starlette or FastAPI has been passed: they keep the outermost root path."""
    return "app_root_path" in scope


def _as_on_entry(scope: Scope, path: str) -> Scope:
    """Copy a scope as the outermost router saw it, before a Mount made its part of the path the root."""
    return {**scope, "path": path, "root_path": scope.get("app_root_path", scope.get("root_path", ""))}


def _match(routes: Iterable[Any], scope: Scope) -> _Found | None:
    """Return the template of the route that Starlette's router would choose, through mounts.

    As there, the first full match wins, then the first partial one (of another method).
    """
    partial = None
    for route in _flat(routes):
        match, child_scope = route.matches(scope)
        if match.name == "FULL":
            return _enter(route, {**scope, **child_scope})
        if match.name == "PARTIAL" and partial is None:
            partial = route
    return None if partial is None else _enter(partial, scope)


def _flat(routes: Iterable[Any]) -> Iterator[Any]:
    """Yield routes, with those of included routers in their places and under their prefixes.

    FastAPI keeps an included router as one route (0.140 does, 0.136 does not). Its `matches()` says
    that something in it matches, its `effective_candidates()` what there is in it: routers again, and
    what stands for a route under this prefix, itself or by its `starlette_route`.
    """
    for route in routes:
        candidates = getattr(route, "effective_candidates", None)
        if candidates is not None:
            yield from _flat(candidates())
        else:
            yield getattr(route, "starlette_route", None) or route


def _enter(route: Any, scope: Scope) -> _Found | None:
    """Return the template of a route that matches, for a Mount or a Host with that of the route within."""
    template: str | None = getattr(route, "path_format", None)
    if hasattr(route, "endpoint"):
        return None if template is None else _Found(template, whole=True)
    outer = None if template is None else _Found(template, whole=False)  # a Host has no path
    routes = _routes_of(getattr(route, "app", None))
    if routes is None:
        return outer
    inner = _match(routes, scope)
    if inner is None or outer is None:
        return inner
    return _Found(outer.prefix + inner.template, inner.whole)


def _routes_of(app: object) -> Sequence[Any] | None:
    """Return the routes of an application as Starlette has them, None if it has none of this kind."""
    for _ in range(WRAPPERS):
        routes = getattr(app, "routes", None)
        if isinstance(routes, Sequence):
            return routes if not routes or hasattr(routes[0], "matches") else None  # Litestar's cannot
        app = getattr(app, "app", None)
    return None
