"""Check the thread server over real sockets: plain, with TLS, with clients' certificates, and its end."""

from __future__ import annotations

import errno
import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import BadStatusLine
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trustme
from prometheus_client import CollectorRegistry, generate_latest

from pool_exporter.exporters.prometheus import PoolCollector
from pool_exporter.serving import MetricsServer, server, start_server
from tests.exporters.snapshots import snapshot


@pytest.fixture
def registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(PoolCollector(lambda: [snapshot("orders")]))
    return registry


def fetch(url: str, context: ssl.SSLContext | None = None) -> bytes:
    with urllib.request.urlopen(url, timeout=10, context=context) as answer:
        assert answer.status == 200
        return bytes(answer.read())


class Files(NamedTuple):
    """Paths of PEM files: an authority, a server's and a client's certificate, and a stranger's."""

    ca: str
    cert: str
    key: str
    client: str
    stranger: str


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    server_cert = authority.issue_cert("127.0.0.1", "localhost")
    paths = Files(*(str(folder / f"{name}.pem") for name in Files._fields))
    authority.cert_pem.write_to_path(paths.ca)
    server_cert.cert_chain_pems[0].write_to_path(paths.cert)
    server_cert.private_key_pem.write_to_path(paths.key)
    authority.issue_cert("client").private_key_and_cert_chain_pem.write_to_path(paths.client)
    trustme.CA().issue_cert("client").private_key_and_cert_chain_pem.write_to_path(paths.stranger)
    return paths


def client_context(files: Files, certificate: str | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=files.ca)
    if certificate is not None:
        context.load_cert_chain(certificate)
    return context


# Serving


def test_it_serves_the_registry_on_a_free_port(registry: CollectorRegistry) -> None:
    """Port 0 takes a free port, which address and URL tell, and the registry's text is served there."""
    with start_server(0, registry=registry) as running:
        host, port = running.address
        assert host == "127.0.0.1"
        assert port > 0
        assert running.url == f"http://127.0.0.1:{port}/metrics"
        assert fetch(running.url) == generate_latest(registry)


@pytest.mark.parametrize(
    ("addr", "address", "url"),
    [
        ("localhost", "127.0.0.1", "http://127.0.0.1:{}/metrics"),
        ("0.0.0.0", "0.0.0.0", "http://127.0.0.1:{}/metrics"),
        ("::1", "::1", "http://[::1]:{}/metrics"),
        ("::", "::", "http://[::1]:{}/metrics"),
    ],
)
def test_the_address_can_be_chosen(registry: CollectorRegistry, addr: str, address: str, url: str) -> None:
    """It listens on the given address, of either family, and the URL is one that can be fetched here."""
    if ":" in addr:
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            pytest.skip("no IPv6 here")
    with start_server(0, addr, registry=registry) as running:
        assert running.address[0] == address
        assert running.url == url.format(running.address[1])
        assert fetch(running.url) == generate_latest(registry)


def test_nothing_is_resolved(registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting asks no name service, not even for the name of the own address."""

    def refuse(*args: Any, **kwargs: Any) -> Any:
        pytest.fail(f"resolved {args}")

    for lookup in ("getfqdn", "gethostbyaddr", "gethostbyname", "getaddrinfo", "getnameinfo", "gethostname"):
        monkeypatch.setattr(socket, lookup, refuse)
    start_server(0, registry=registry).close()


def test_requests_write_nothing_to_standard_error(
    registry: CollectorRegistry, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither a scrape nor a client that talks nonsense or hangs up prints anything."""
    with start_server(0, registry=registry) as running:
        fetch(running.url)
        with socket.create_connection(running.address, timeout=10) as client:
            client.sendall(b"nonsense\r\n\r\n")
            while client.recv(1000):
                pass
    assert capfd.readouterr() == ("", "")


# TLS


def test_tls_serves_https_only(registry: CollectorRegistry, files: Files) -> None:
    """With a certificate the metrics are served over TLS to clients that trust its authority, and not without."""
    with start_server(0, registry=registry, certfile=files.cert, keyfile=Path(files.key)) as running:
        assert running.url.startswith("https://127.0.0.1:")
        assert fetch(running.url, client_context(files)) == generate_latest(registry)
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            fetch(running.url, ssl.create_default_context())
        # BadStatusLine is what http.client makes of a connection closed without an answer.
        with pytest.raises((BadStatusLine, ConnectionResetError)):
            fetch(running.url.replace("https", "http"))


@pytest.mark.parametrize("required", [True, False])
def test_clients_certificates_are_verified(registry: CollectorRegistry, files: Files, required: bool) -> None:
    """A client's certificate must be the authority's; a client without one is let in unless it is required."""
    with start_server(
        0,
        registry=registry,
        certfile=files.cert,
        keyfile=files.key,
        client_cafile=files.ca,
        client_auth_required=required,
    ) as running:
        expected = generate_latest(registry)
        assert fetch(running.url, client_context(files, files.client)) == expected
        with pytest.raises((urllib.error.URLError, ssl.SSLError, ConnectionError)):
            fetch(running.url, client_context(files, files.stranger))
        if required:
            with pytest.raises((urllib.error.URLError, ssl.SSLError, ConnectionError)):
                fetch(running.url, client_context(files))
        else:
            assert fetch(running.url, client_context(files)) == expected


def test_a_directory_of_authorities_is_accepted(
    registry: CollectorRegistry, files: Files, tmp_path: Path
) -> None:
    """client_capath alone is enough for required certificates; an authority not in it lets nobody in."""
    with (
        start_server(
            0,
            registry=registry,
            certfile=files.cert,
            keyfile=files.key,
            client_capath=tmp_path,
            client_auth_required=True,
        ) as running,
        pytest.raises((urllib.error.URLError, ssl.SSLError, ConnectionError)),
    ):
        fetch(running.url, client_context(files, files.client))


def test_a_silent_client_does_not_stop_others(registry: CollectorRegistry, files: Files) -> None:
    """A client that connects and never begins the handshake keeps nobody else waiting."""
    with (
        start_server(0, registry=registry, certfile=files.cert, keyfile=files.key) as running,
        socket.create_connection(running.address),
    ):
        assert fetch(running.url, client_context(files)) == generate_latest(registry)


# The end


def test_closing_frees_the_port_and_ends_the_thread(registry: CollectorRegistry) -> None:
    """After close() nothing listens, the thread is gone and the port can be taken again; once more does nothing."""
    before = threading.enumerate()
    running = start_server(0, registry=registry)
    assert len(threading.enumerate()) == len(before) + 1
    fetch(running.url)
    running.close()
    running.close()
    assert [thread.name for thread in threading.enumerate() if thread.name == "pool-exporter-metrics"] == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(running.address, timeout=10)
    with start_server(running.address[1], registry=registry) as again:
        assert again.address == running.address
        assert fetch(again.url) == generate_latest(registry)


def test_leaving_the_context_closes(registry: CollectorRegistry) -> None:
    """The server is a context manager that closes it, also after an exception."""
    with pytest.raises(RuntimeError, match="inside"), start_server(0, registry=registry) as running:
        raise RuntimeError("inside")
    assert isinstance(running, MetricsServer)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(running.address, timeout=10)


# Mistakes


def test_a_taken_port_is_named_at_once(registry: CollectorRegistry) -> None:
    """A port that something listens on raises OSError that names argument, value and remedy."""
    with start_server(0, registry=registry) as running:
        port = running.address[1]
        with pytest.raises(OSError, match=f"port={port}: .* on 127.0.0.1; .* another port") as refused:
            start_server(port, registry=registry)
        assert refused.value.errno == errno.EADDRINUSE
        assert fetch(running.url)


def test_an_address_of_another_machine_is_named(registry: CollectorRegistry) -> None:
    """An address that this machine does not have raises OSError that names it."""
    with pytest.raises(OSError, match=r"addr='192\.0\.2\.1': cannot listen on port 0: .*of this machine"):
        start_server(0, "192.0.2.1", registry=registry)


Arguments = Callable[[Files, Path], dict[str, Any]]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (lambda f, d: {"port": 70000}, ValueError, r"port=70000: .* 65535"),
        (lambda f, d: {"port": -1}, ValueError, r"port=-1: .* 65535"),
        (lambda f, d: {"port": "9100"}, TypeError, r"port='9100': expected an int"),
        (lambda f, d: {"port": True}, TypeError, r"port=True: expected an int"),
        (lambda f, d: {"addr": "example.org"}, ValueError, r"addr='example.org': not an IP address.*127"),
        (lambda f, d: {"addr": ""}, ValueError, r"addr='': not an IP address"),
        (lambda f, d: {"addr": None}, TypeError, r"addr=None: not a string"),
        (lambda f, d: {"certfile": f.cert}, ValueError, r"keyfile=None: .*give keyfile="),
        (lambda f, d: {"keyfile": f.key}, ValueError, r"certfile=None: .*give certfile="),
        (
            lambda f, d: {"certfile": d / "no.pem", "keyfile": f.key},
            FileNotFoundError,
            r"certfile='.*no\.pem': no such file; give",
        ),
        (
            lambda f, d: {"certfile": f.cert, "keyfile": d / "no.pem"},
            FileNotFoundError,
            r"keyfile='.*no\.pem': no such file",
        ),
        (
            lambda f, d: {"certfile": f.cert, "keyfile": f.key, "client_cafile": d / "no.pem"},
            FileNotFoundError,
            r"client_cafile='.*no\.pem': no such file",
        ),
        (
            lambda f, d: {"certfile": f.cert, "keyfile": f.key, "client_capath": d / "no"},
            FileNotFoundError,
            r"client_capath='.*no': no such directory",
        ),
        (
            lambda f, d: {"certfile": f.cert, "keyfile": f.key, "client_auth_required": True},
            ValueError,
            r"client_auth_required=True: .*give client_cafile=",
        ),
        (lambda f, d: {"client_auth_required": True}, ValueError, r"client_auth_required=True: "),
        (lambda f, d: {"client_cafile": f.ca}, ValueError, r"client_cafile='.*ca\.pem': .*give certfile="),
        (
            lambda f, d: {"certfile": f.cert, "keyfile": f.stranger},
            ValueError,
            r"(?i)certfile='.*', keyfile='.*': .*mismatch; give",
        ),
        (
            lambda f, d: {"certfile": f.key, "keyfile": f.key},
            ValueError,
            r"certfile='.*key\.pem', keyfile='.*': .*; give a PEM certificate",
        ),
        (
            lambda f, d: {"certfile": f.cert, "keyfile": f.key, "client_cafile": f.key},
            ValueError,
            r"client_cafile='.*key\.pem', client_capath=None: .*; give the PEM certificates",
        ),
    ],
)
def test_a_wrong_argument_is_named_before_anything_is_opened(
    arguments: Arguments,
    error: type[Exception],
    message: str,
    files: Files,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An argument that cannot be right raises at once, naming it, its value and the remedy; no socket is opened."""
    monkeypatch.setattr(server, "_Server", lambda *_: pytest.fail("a socket was opened"))
    with pytest.raises(error, match=message):
        start_server(**{"port": 0, **arguments(files, tmp_path)})


def test_an_encrypted_key_is_refused_without_asking(files: Files, tmp_path: Path) -> None:
    """A key with a passphrase raises ValueError instead of asking on the terminal."""
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(Path(files.key).read_bytes(), password=None)
    encrypted = tmp_path / "encrypted.pem"
    encrypted.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(ValueError, match=r"keyfile='.*encrypted\.pem': the key is encrypted; give one"):
        start_server(0, certfile=files.cert, keyfile=encrypted)
