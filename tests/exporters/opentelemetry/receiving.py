"""Receive what a process exports by OTLP over HTTP."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

Export = dict[str, dict[str, list[Any]]]
"""The data points of one export, by scope and by metric."""


class Point(NamedTuple):
    """A number with its attributes; of a histogram, how many samples it has."""

    value: int
    attributes: dict[str, Any]


def _points(metric: Any) -> list[Point]:
    found = []
    for point in getattr(metric, metric.WhichOneof("data")).data_points:
        attributes = {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in point.attributes}
        value = point.count if hasattr(point, "count") else getattr(point, point.WhichOneof("value"))
        found.append(Point(value, attributes))
    return found


def _read(body: bytes) -> Export:
    request = ExportMetricsServiceRequest()
    request.ParseFromString(body)
    found: Export = {}
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            metrics = found.setdefault(scope.scope.name, {})
            for metric in scope.metrics:
                metrics.setdefault(metric.name, []).extend(_points(metric))
    return found


class Receiver:
    """What has arrived at an endpoint."""

    def __init__(self) -> None:
        self._arrived = threading.Condition()  # guards exports
        self.exports: list[Export] = []
        self.endpoint = ""

    def add(self, export: Export) -> None:
        """Take in an export."""
        with self._arrived:
            self.exports.append(export)
            self._arrived.notify_all()

    def wait_for(self, wanted: Callable[[Export], Any], seconds: float) -> Export:
        """Return the first wanted export that is begun from now on; fail after so many seconds.

        A process exports one after the other, so the next to arrive may have been begun before, the one
        after it was not.
        """
        with self._arrived:
            start = len(self.exports)

            def found() -> Export | None:
                return next((one for one in self.exports[start + 1 :] if wanted(one)), None)

            export = self._arrived.wait_for(found, seconds)
            assert export is not None, f"not in {self.exports[start:]}"
            return export


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    """Run an endpoint on this machine for what is sent to `/v1/metrics`."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/v1/metrics":
                receiver.add(_read(body))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()
