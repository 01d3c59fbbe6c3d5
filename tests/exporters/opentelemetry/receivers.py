"""Receive OTLP as a Collector does, over gRPC or HTTP, and add up what came."""

from __future__ import annotations

import contextlib
import gzip
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import grpc
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc import (
    MetricsServiceServicer,
    add_MetricsServiceServicer_to_server,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_DELTA

Attributes = frozenset[tuple[str, Any]]


class Buckets(NamedTuple):
    """One histogram's data point: how many samples lie in each bucket, their number and sum."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    count: int
    sum: float

    def plus(self, other: Buckets) -> Buckets:
        """Return the samples of both."""
        assert self.bounds == other.bounds
        counts = tuple(one + two for one, two in zip(self.counts, other.counts, strict=True))
        return Buckets(self.bounds, counts, self.count + other.count, self.sum + other.sum)


class Receiver:
    """What arrived: by metric and attributes its last value, or the sum of what came as deltas."""

    def __init__(self) -> None:
        self.url = ""
        self.encodings: list[str] = []
        self.fault = ""  # "refuse" or "hang": what is done to HTTP requests instead of taking them
        self.faults = 0
        self.healed = threading.Event()  # ends those that hang
        self.exports = 0
        self.metrics: dict[str, dict[Attributes, Any]] = {}
        self.deltas: set[str] = set()
        self._lock = threading.Lock()  # guards all of it: requests come in threads

    def take(self, request: ExportMetricsServiceRequest, encoding: str) -> None:
        """Add one request to what arrived."""
        with self._lock:
            self.exports += 1
            self.encodings.append(encoding)
            for resource in request.resource_metrics:
                for scope in resource.scope_metrics:
                    if scope.scope.name == "pool_exporter":
                        for metric in scope.metrics:
                            self._take(metric)

    def _take(self, metric: Any) -> None:
        data = getattr(metric, metric.WhichOneof("data"))
        delta = getattr(data, "aggregation_temporality", None) == AGGREGATION_TEMPORALITY_DELTA
        if delta:
            self.deltas.add(metric.name)
        series = self.metrics.setdefault(metric.name, {})
        for point in data.data_points:
            key = frozenset(
                (pair.key, getattr(pair.value, pair.value.WhichOneof("value"))) for pair in point.attributes
            )
            value = _value(point)
            if delta and key in series:
                value = series[key].plus(value) if isinstance(value, Buckets) else series[key] + value
            series[key] = value


def _value(point: Any) -> Any:
    if hasattr(point, "bucket_counts"):
        return Buckets(tuple(point.explicit_bounds), tuple(point.bucket_counts), point.count, point.sum)
    return getattr(point, point.WhichOneof("value"))


@contextlib.contextmanager
def grpc_receiver() -> Iterator[Receiver]:
    """Serve OTLP over gRPC on a free port."""
    receiver = Receiver()

    class Service(MetricsServiceServicer):  # type: ignore[misc]
        def Export(self, request: Any, context: Any) -> Any:
            sent = dict(context.invocation_metadata())
            receiver.take(request, sent.get("grpc-encoding", ""))
            return ExportMetricsServiceResponse()

    server = grpc.server(ThreadPoolExecutor(2))
    add_MetricsServiceServicer_to_server(Service(), server)
    receiver.url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield receiver
    finally:
        server.stop(0).wait(10)


@contextlib.contextmanager
def http_receiver() -> Iterator[Receiver]:
    """Serve OTLP over HTTP with Protobuf on a free port; bodies may come compressed."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if receiver.fault:
                receiver.faults += 1
                if receiver.fault == "hang":
                    receiver.healed.wait(10)
                self.send_response(503)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            encoding = self.headers.get("Content-Encoding", "")
            request = ExportMetricsServiceRequest()
            request.ParseFromString(gzip.decompress(body) if encoding == "gzip" else body)
            receiver.take(request, encoding)
            answer = ExportMetricsServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):  # of a client that did not wait
                super().handle()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}/v1/metrics"
    try:
        yield receiver
    finally:
        receiver.healed.set()
        server.shutdown()
        thread.join()
        server.server_close()
