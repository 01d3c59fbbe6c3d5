"""Put the demo's web application together: a shop whose routes use the pool well, badly and worse."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy.exc import DBAPIError, TimeoutError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from pool_exporter import OwnerMiddleware
from pool_exporter_lab.demo import faults, orders
from pool_exporter_lab.demo.state import Shop


def application(
    shop: Shop, metrics: ASGIApp, page: ASGIApp, timed_out: Callable[[Exception], None]
) -> Starlette:
    """Return the shop's application, with the ASGI applications of /metrics and of the status page beside it.

    `timed_out` is called with the exception of each request that got no connection in time.
    """

    async def busy(request: Request, error: Exception) -> Response:
        timed_out(error)
        return PlainTextResponse(
            "no database connection in time\n", status_code=503, headers={"Retry-After": "1"}
        )

    app = Starlette(
        routes=[
            Route("/", _index),
            Route("/orders", orders.list_orders),
            Route("/orders", orders.place_order, methods=["POST"]),
            Route("/orders/{id:int}", orders.show_order),
            Route("/report", orders.report),
            Route("/orders/{id:int}/refund", faults.refund_order, methods=["POST"]),
            Route("/orders/{id:int}/invoice", faults.print_invoice),
            Route("/statistics", faults.show_statistics),
            Route(
                "/chat/stream",
                faults.Dependent(faults.get_current_user, faults.stream_chat),
                methods=["POST"],
            ),
            Route("/metrics", metrics),  # two routes; a mount would redirect the first to the second
            Route("/metrics/", metrics),
            Mount("/pools", page),
        ],
        middleware=[Middleware(OwnerMiddleware)],
        exception_handlers={TimeoutError: busy, DBAPIError: _unavailable},
    )
    app.state.shop = shop
    return app


async def _index(request: Request) -> Response:
    return PlainTextResponse(
        "GET /orders, POST /orders?cents=100, GET /orders/1, GET /report?days=7, GET /metrics, GET /pools/\n"
        "At fault: POST /orders/1/refund?cents=9900, GET /orders/1/invoice, POST /chat/stream, "
        "GET /statistics?seconds=10\n"
    )


async def _unavailable(request: Request, error: Exception) -> Response:
    """Answer when the database fails; its message may hold SQL, so it stays here."""
    return PlainTextResponse("the database failed\n", status_code=503)
