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
from collections.abc import Callable
from types import TracebackType
from typing import Any, ClassVar
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client.exposition import make_wsgi_app
from prometheus_client.registry import REGISTRY, CollectorRegistry

from pool_exporter.serving.port_lock import PortLock
from pool_exporter.serving.registries import registry_to_serve
from pool_exporter.serving.tls import FilePath, server_context
from pool_exporter.support.environment import DIRECTORY_VARIABLE, disabled
from pool_exporter.support.workers import has_siblings

logger = logging.getLogger("pool_exporter.serving.server")

CLIENT_TIMEOUT_SECONDS = 30.0
"""How long a client may take over a handshake, a request or reading the answer."""
POLL_SECONDS = 0.2
"""How often the server's thread looks whether it is to stop."""
TURN_SECONDS = 1.0
"""How often a worker looks whether the one that serves has ended."""


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
    resolved and no connection is opened. Of several workers of a server one gets the port; in the
    others `serving` is False, until it ends and one of them takes its place. With `POOL_EXPORTER_DISABLED=1` in the environment
    nothing is listened on either: the address has port 0, and the URL is empty.
    """
    host = _checked_address(port, addr)
    if disabled():
        return _NullServer(host)
    served, merging = registry_to_serve(registry)
    context = server_context(certfile, keyfile, client_cafile, client_capath, client_auth_required)

    def listen() -> _Server:
        try:
            return _Server(host, port, served, context)
        except OSError as error:
            raise OSError(error.errno, _why_not_listening(error, host, port)) from error

    if port == 0 or not has_siblings():
        return MetricsServer(listen())
    if not merging:
        logger.warning(
            "port %d will show the worker that has it, and no other: set %s to an empty directory before "
            "the server starts, and it shows all of them",
            port,
            DIRECTORY_VARIABLE,
        )
    return _SharedServer(listen, host, port, secure=context is not None)


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
        return _url(*self.address, secure=self._server.context is not None)

    @property
    def serving(self) -> bool:
        """Tell whether it is this process that listens, and not another worker, or nobody any more."""
        return self._thread.is_alive()

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


class _SharedServer(MetricsServer):
    """The server of one of several workers: it listens while no other of them does."""

    def __init__(self, listen: Callable[[], _Server], host: str, port: int, *, secure: bool) -> None:
        self._listen = listen
        self._address = host, port
        self._secure = secure
        self._turn = PortLock(host, port)
        self._own: MetricsServer | None = None
        self._ended = threading.Event()
        self._lock = threading.Lock()  # guards _own against a close that comes while its turn comes
        if not self._begin():
            logger.info("another worker serves port %d; this one does when that one ends", port)
            threading.Thread(target=self._wait, name="pool-exporter-waiting", daemon=True).start()

    def _begin(self) -> bool:
        """Listen, if no other worker does. Raises OSError if a stranger has the port."""
        sure = True
        try:
            if not self._turn.take():
                return False
        except OSError as error:
            # Then it cannot be told whether it is a stranger who has the port, or another worker.
            sure = False
            logger.debug("no file to take turns by: %s", error)
        try:
            self._own = MetricsServer(self._listen())
        except OSError as error:
            self._turn.give_back()
            if sure or error.errno != errno.EADDRINUSE:
                raise
            return False
        return True

    def _wait(self) -> None:
        said = False
        while not self._ended.wait(TURN_SECONDS):
            try:
                with self._lock:
                    if self._ended.is_set() or self._begin():
                        return
            except OSError as error:
                if not said:
                    said = True
                    logger.warning("no worker serves port %d: %s", self._address[1], error)

    @property
    def address(self) -> tuple[str, int]:
        """Return the IP address and the port that one of the workers listens on."""
        return self._address

    @property
    def url(self) -> str:
        """Return the URL of the metrics; on loopback if the server listens on all addresses."""
        return _url(*self._address, secure=self._secure)

    @property
    def serving(self) -> bool:
        """Tell whether it is this worker that listens."""
        return self._own is not None and self._own.serving

    def close(self) -> None:
        """Stop serving, or waiting for it, so that another worker may; again, do nothing."""
        self._ended.set()
        with self._lock:
            if self._own is not None:
                self._own.close()
                self._turn.give_back()


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

    @property
    def serving(self) -> bool:
        """Return False."""
        return False

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
    listening: ClassVar[set[_Server]] = set()  # those of this process
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
        self.listening.add(self)

    def server_close(self) -> None:
        self.listening.discard(self)
        super().server_close()

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


def _after_fork() -> None:
    # A child that outlives this process would keep the port, and accept nobody.
    for server in tuple(_Server.listening):
        server.socket.close()
    _Server.listening.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _url(host: str, port: int, *, secure: bool) -> str:
    if ipaddress.ip_address(host).is_unspecified:
        host = "::1" if ":" in host else "127.0.0.1"
    return f"{'https' if secure else 'http'}://{f'[{host}]' if ':' in host else host}:{port}/metrics"


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
