"""Serve /metrics from a thread of its own, with or without TLS."""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import socket
import socketserver
import ssl
import threading
from types import TracebackType
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client.exposition import make_wsgi_app
from prometheus_client.registry import REGISTRY, CollectorRegistry

from pool_exporter.arguments import disabled
from pool_exporter.serving.registries import registry_to_serve
from pool_exporter.serving.tls import FilePath, server_context

logger = logging.getLogger(__name__)

CLIENT_TIMEOUT_SECONDS = 30.0
"""How long a client may take over a handshake, a request or reading the answer."""
POLL_SECONDS = 0.2
"""How often the server's thread looks whether it is to stop."""


def start_server(
    port: int,
    addr: str = "127.0.0.1",
    *,
    registry: CollectorRegistry = REGISTRY,
    certfile: FilePath | None = None,
    keyfile: FilePath | None = None,
    client_cafile: FilePath | None = None,
    client_capath: FilePath | None = None,
    client_auth_required: bool = False,
) -> MetricsServer:
    """Start a daemon thread that serves the metrics of a registry over HTTP, or HTTPS with a `certfile`.

    `port` 0 takes a free one; `addr` is an IP address of this machine, by default loopback, so
    that nothing outside of it can connect. `certfile` and `keyfile` are PEM files, the key not
    encrypted. With a `client_cafile` (or directory, `client_capath`) a client's certificate is
    verified if it shows one, and with `client_auth_required` it must show one.

    Raises `OSError` if the address cannot be listened on, and before that `TypeError`,
    `ValueError` or `FileNotFoundError` for an argument that cannot be right. Nothing is
    resolved and no connection is opened. With `POOL_EXPORTER_DISABLED=1` in the environment
    nothing is listened on either: the address has port 0, and the URL is empty.
    """
    host = _checked_address(port, addr)
    if disabled():
        return _NullServer(host)
    served, _ = registry_to_serve(registry)
    context = server_context(certfile, keyfile, client_cafile, client_capath, client_auth_required)
    try:
        server = _Server(host, port, served, context)
    except OSError as error:
        raise OSError(error.errno, _why_not_listening(error, host, port)) from error
    return MetricsServer(server)


class MetricsServer:
    """Control a running server: where it is, and its end. A context manager that closes it."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._lock = threading.Lock()  # guards the closing of _server against a second one
        self._thread = threading.Thread(
            target=server.serve_forever, args=(POLL_SECONDS,), name="pool-exporter-metrics", daemon=True
        )
        self._thread.start()

    @property
    def address(self) -> tuple[str, int]:
        """Return the IP address and the port that the server listens on, or did."""
        host, port = self._server.server_address[:2]
        return str(host), int(port)

    @property
    def url(self) -> str:
        """Return the URL of the metrics; on loopback if the server listens on all addresses."""
        host, port = self.address
        if ipaddress.ip_address(host).is_unspecified:
            host = "::1" if ":" in host else "127.0.0.1"
        scheme = "http" if self._server.context is None else "https"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}/metrics"

    def close(self) -> None:
        """Stop serving, close the socket and wait for the thread; again, do nothing."""
        with self._lock:
            # Dead after the first close, and in a forked child, where shutdown() would wait for ever.
            if self._thread.is_alive():
                self._server.shutdown()
                self._thread.join()
            self._server.server_close()

    def __enter__(self) -> MetricsServer:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class _NullServer(MetricsServer):
    """What `start_server()` returns when the library is switched off: it listens on nothing."""

    def __init__(self, host: str) -> None:
        self._host = host

    @property
    def address(self) -> tuple[str, int]:
        """Return the IP address that was asked for, and port 0."""
        return self._host, 0

    @property
    def url(self) -> str:
        """Return "": there is nothing to ask."""
        return ""

    def close(self) -> None:
        """Do nothing."""


class _Handler(WSGIRequestHandler):
    timeout = CLIENT_TIMEOUT_SECONDS

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: scrapes come every few seconds."""


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    """Serve each client in a thread.

    It stands in for prometheus_client's `start_http_server`, which looks its own name up (a
    reverse DNS query) and does TLS handshakes in the accepting thread, where a client that says
    nothing stops all others.
    """

    daemon_threads = True
    # On Windows the option lets two servers have one port, instead of one that has just closed.
    allow_reuse_address = os.name == "posix"
    allow_reuse_port = False

    def __init__(
        self, host: str, port: int, registry: CollectorRegistry, context: ssl.SSLContext | None
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.context = context
        super().__init__((host, port), _Handler)
        self.set_app(make_wsgi_app(registry))

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # not HTTPServer's, which resolves the host
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self.context is None:
            super().finish_request(request, client_address)
            return
        request.settimeout(CLIENT_TIMEOUT_SECONDS)
        with self.context.wrap_socket(request, server_side=True) as tls:
            super().finish_request(tls, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Clients that hang up, scan ports or fail the handshake are no event for the application.
        logger.debug("metrics request from %s failed", client_address, exc_info=True)


def _checked_address(port: int, addr: str) -> str:
    """Return the IP address to listen on; raise if it or the port is none."""
    if isinstance(port, bool) or not isinstance(port, int):
        raise TypeError(f"port={port!r}: expected an int from 0 (a free port) to 65535")
    if not 0 <= port <= 65535:
        raise ValueError(f"port={port!r}: expected an int from 0 (a free port) to 65535")
    advice = 'give an IP address of this machine, such as "127.0.0.1", or "0.0.0.0" for all of them'
    if not isinstance(addr, str):
        raise TypeError(f"addr={addr!r}: not a string; {advice}")
    if addr == "localhost":
        return "127.0.0.1"
    try:
        ipaddress.ip_address(addr)
    except ValueError:
        raise ValueError(f"addr={addr!r}: not an IP address, and names are not resolved; {advice}") from None
    return addr


def _why_not_listening(error: OSError, host: str, port: int) -> str:
    reason = error.strerror or str(error)
    if error.errno == errno.EADDRINUSE:
        return f"port={port!r}: {reason} on {host}; stop what listens there or give another port (0 takes a free one)"
    if error.errno == errno.EACCES:
        return f"port={port!r}: {reason}; ports below 1024 often need privileges, so give a higher one"
    return f"addr={host!r}: cannot listen on port {port}: {reason}; give an address of this machine"
