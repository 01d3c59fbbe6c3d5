"""The default name of a pool, and its server and database, from an engine's URL."""

from __future__ import annotations

import os
from ipaddress import IPv6Address
from itertools import zip_longest

from sqlalchemy import Engine
from sqlalchemy.engine import URL

_PORTS = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306, "oracle": 1521, "mssql": 1433}


def server_of(url: URL) -> str:
    """Return `host:port` of a URL, several joined by commas, or the path of a Unix socket.

    "" if the URL names no host; never user or password.
    """
    for parameter in ("unix_socket", "unix_sock"):  # of the drivers of MySQL, of pg8000
        if parameter in url.query:
            return ",".join(_values(url, parameter))
    if _is_misread(url):
        return ""
    hosts = [url.host] if url.host else _values(url, "host")
    ports = [str(url.port)] if url.port else _values(url, "port")
    default = _PORTS.get(url.get_backend_name())
    if len(ports) == 1:
        ports *= len(hosts)  # one for all
    pairs = zip_longest(hosts, ports[: len(hosts)], fillvalue="")
    return ",".join(_address(host, port or default) for host, port in pairs)


def _is_misread(url: URL) -> bool:
    """Tell whether part of a user or password, not escaped, was taken for the host."""
    if url.username is None and "@" in (url.database or ""):
        return True  # a user with a slash
    try:
        return ":" in (url.host or "") and not IPv6Address(url.host or "")
    except ValueError:
        return True  # a password with brackets


def _values(url: URL, parameter: str) -> list[str]:
    """Return the values of a query parameter that may be repeated, or a list with commas."""
    given = url.query.get(parameter, ())
    return ",".join((given,) if isinstance(given, str) else given).split(",") if given else []


def _address(host: str, port: str | int | None) -> str:
    host = _without_credentials(host)
    if host.startswith("/") or not port:  # a directory of a Unix socket
        return host
    if host.count(":") == 1 or "]:" in host:  # has its port
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _without_credentials(part: str) -> str:
    """Return what follows the last "@" in a part of a URL.

    Before it stand user or password, or the rest of one, of a URL in which they were not escaped.
    """
    return part.rpartition("@")[2]


def database_of(url: URL) -> str:
    """Return the database's name of a URL; of SQLite the file's name."""
    if url.get_backend_name() == "sqlite":
        path = (url.database or ":memory:").removeprefix("file:").partition("?")[0]
        return os.path.basename(path) or ":memory:"
    return _without_credentials(url.database or "")


def default_name(engine: Engine) -> str:
    """Return the `pool` label of an engine: its logging name, else made of its URL."""
    logging_name = engine.pool._orig_logging_name
    if logging_name:
        return str(logging_name)
    server, database = server_of(engine.url), database_of(engine.url)
    if server and database:
        return f"{server}/{database}"
    return server or database or engine.dialect.name
