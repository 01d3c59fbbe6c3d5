"""Get the JSON of a running process's status page, or say in one line why not."""

from __future__ import annotations

import argparse
import http.client
import json
import math
import os
import ssl
import urllib.error
import urllib.request
from typing import IO, Any
from urllib.parse import SplitResult, quote, urlsplit, urlunsplit

from pool_exporter.cli.errors import CommandError
from pool_exporter.serving.status.access import has_token_parameter
from pool_exporter.support.text import visible

TOKEN_VARIABLE = "POOL_EXPORTER_TOKEN"  # noqa: S105 - the variable's name
TIMEOUT_SECONDS = 10.0
MAX_BYTES = 64 * 2**20

_EXAMPLE = "such as http://127.0.0.1:8000/pools/"
_OF_THE_PAGE = f"give the address where status_app() is served, {_EXAMPLE}"


def add_fetching_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say where the page is and how to get at it."""
    parser.add_argument("url", metavar="URL", help=f"the status page's address, {_EXAMPLE}")
    parser.add_argument(
        "--token-env",
        metavar="NAME",
        help=f"the environment variable that has the page's token, if it needs one (default: {TOKEN_VARIABLE})",
    )
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=TIMEOUT_SECONDS,
        metavar="S",
        help="how many seconds the process may be silent (default: %(default)s)",
    )


def fetch(url: str, *, token_env: str | None, timeout_seconds: float) -> Any:
    """Return the JSON document of a status page; raise `CommandError` if it cannot be had.

    Connects to that address only: the environment's proxies are not used, and a redirect is
    followed on the same server only, because the token goes along.
    """
    parts = _checked(url)
    shown = visible(urlunsplit((parts.scheme, parts.netloc, parts.path, "", "")))
    token, variable = _token(token_env)
    headers = {"Accept": "application/json", "User-Agent": "pool-exporter"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(urlunsplit(parts), headers=headers)  # noqa: S310 - http or https
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _SameServer(parts))
    try:
        with opener.open(request, timeout=timeout_seconds) as answer:
            kind = answer.headers.get_content_type()
            body = answer.read(MAX_BYTES + 1)
    except urllib.error.HTTPError as error:
        with error:
            raise CommandError(_refused(error, shown, variable, bool(token))) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise CommandError(_unreached(error, shown, timeout_seconds)) from None
    return _document(body, kind, shown)


class _SameServer(urllib.request.HTTPRedirectHandler):
    def __init__(self, parts: SplitResult) -> None:
        self._server = (parts.scheme, parts.netloc)

    def redirect_request(  # noqa: PLR0917 - as urllib calls it
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        target = urlsplit(newurl)
        if (target.scheme, target.netloc) != self._server:
            elsewhere = visible(urlunsplit((target.scheme, target.netloc, target.path, "", "")))
            raise CommandError(
                f"the page redirects to another server, {elsewhere}; give that address if it is right"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _checked(url: str) -> SplitResult:
    """Return the parts of the URL to ask; no message repeats what may be a secret in it."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # .port raises for one that is none
    except ValueError as error:
        raise CommandError(f"URL: {visible(str(error))}; {_OF_THE_PAGE}") from None
    if parts.username is not None or parts.password is not None or has_token_parameter(parts.query):
        raise CommandError(
            f"URL: has a secret in it; leave it out, and set the environment variable {TOKEN_VARIABLE} to the token"
        )
    if parts.scheme not in ("http", "https") or not host:
        raise CommandError(f"URL {visible(url)!r}: not an http or https URL; {_OF_THE_PAGE}")
    if not (parts.netloc.isascii() and parts.netloc.isprintable()) or " " in parts.netloc:
        raise CommandError(
            f"URL {visible(url)!r}: the host has characters that no host name has; {_OF_THE_PAGE}"
        )
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~", errors="replace")
    return SplitResult(parts.scheme, parts.netloc, path, "format=json", "")


def _token(token_env: str | None) -> tuple[str, str]:
    """Return the token, "" if there is none, and the variable that it came from."""
    variable = TOKEN_VARIABLE if token_env is None else token_env
    token = os.environ.get(variable, "").strip()
    if token_env is not None and not token:
        raise CommandError(
            f"--token-env {visible(variable)}: not set in the environment; set it to the page's token"
        )
    if not (token.isascii() and token.isprintable()):
        raise CommandError(
            f"{visible(variable)}: has characters that no token has; set it to the page's token"
        )
    return token, variable


def _refused(error: urllib.error.HTTPError, url: str, variable: str, has_token: bool) -> str:
    if error.code == 401:
        if has_token:
            return f"{url}: the token in {visible(variable)} is not the page's; set it to the token of status_app()"
        return (
            f"{url}: needs a token; set the environment variable {visible(variable)} to that of status_app()"
        )
    if error.code == 404:
        return f"{url}: nothing there (404); {_OF_THE_PAGE}"
    said = ""
    if error.headers.get_content_type() == "text/plain":
        said = visible(error.read(1000).decode("utf-8", "replace").strip().partition(": ")[2], 400)
    if error.code == 403:
        return f"{url}: refused (403): {said or 'this page is for others; ask whoever runs it for a token'}"
    return f"{url}: answered {error.code}" + (
        f": {said}" if said else "; the log of that process may say why"
    )


def _unreached(error: Exception, url: str, timeout_seconds: float) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, ConnectionRefusedError):
        return f"{url}: connection refused; start the process, or give the port that it listens on"
    if isinstance(reason, TimeoutError):
        return (
            f"{url}: no answer within {timeout_seconds:g} s; the process may be stuck, or give --timeout more"
        )
    if isinstance(reason, ssl.SSLError):
        return f"{url}: TLS failed ({visible(str(reason))}); check the certificate, or whether it is http"
    if isinstance(reason, http.client.HTTPException):
        return f"{url}: what answers there does not speak HTTP; {_OF_THE_PAGE}"
    return f"{url}: {visible(str(reason) or type(reason).__name__)}; {_OF_THE_PAGE}"


def _document(body: bytes, kind: str, url: str) -> Any:
    if len(body) > MAX_BYTES:
        raise CommandError(
            f"{url}: answered more than {MAX_BYTES >> 20} MB, which no status page does; {_OF_THE_PAGE}"
        )
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise CommandError(
            f"{url}: answered {visible(kind)}, not the JSON of a status page; {_OF_THE_PAGE}"
        ) from None


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and 0 < seconds <= 3600):
        raise argparse.ArgumentTypeError(f"{text!r}: give a number of seconds above 0, such as 10")
    return seconds
