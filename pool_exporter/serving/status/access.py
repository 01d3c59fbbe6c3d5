"""Decide who may look at the status page: this machine alone, or whoever shows the token."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
from http import HTTPStatus
from urllib.parse import parse_qsl, urlsplit

from pool_exporter.serving.asgi import Answer, Scope, header_values

MIN_TOKEN_LENGTH = 16
_ADVICE = "give one that is hard to guess, such as secrets.token_urlsafe(32) makes"
_CHALLENGE = ((b"www-authenticate", b'Basic realm="pool_exporter", charset="UTF-8"'),)
# What proxies tell of their client goes by many names, such as Fly-Client-IP and X-Original-Forwarded-For.
_PROXY_WORDS = (b"forwarded", b"real-ip", b"client-ip", b"connecting-ip", b"external-address")
_TOKEN_PARAMETERS = frozenset(
    {"token", "access_token", "auth_token", "api_key", "apikey", "bearer", "password", "authorization"}
)
_REMEDY = "to allow others, give status_app() a token= and send it in the Authorization header"


def checked_token(token: object) -> bytes | None:
    """Return the token as bytes, None if there is none; the error for a bad one never repeats it."""
    if token is None:
        return None
    if not isinstance(token, str):
        raise TypeError(
            f"token is a {type(token).__name__}: expected text, or None to serve this machine only"
        )
    if not (token.isascii() and token.isprintable()) or token != token.strip():
        raise ValueError(
            "token has characters that a header cannot carry: use printable ASCII, without a space at "
            f"either end; {_ADVICE}"
        )
    if len(token) < MIN_TOKEN_LENGTH:
        raise ValueError(
            f"token has {len(token)} characters, and needs {MIN_TOKEN_LENGTH} or more; {_ADVICE}"
        )
    return token.encode("ascii")


def refusal(scope: Scope, token: bytes | None) -> Answer | None:
    """Return why a request is refused, None if it may look.

    With a token, every request needs it, as `Authorization: Bearer TOKEN` or as the password of
    HTTP Basic, for which browsers ask. Without one, a request must come from this machine and
    from nobody else through it: neither a proxy, which passes strangers on from a local address,
    nor a web page of somebody else's in a local browser, whose name for this server (DNS
    rebinding) or whose origin gives it away.
    """
    if _has_token_in_query(scope, token):
        return Answer.plain(
            HTTPStatus.BAD_REQUEST,
            "a token in the URL ends up in logs and histories; send it in the Authorization header, "
            "as Bearer or as the password of Basic, and make a new one",
        )
    if token is not None:
        if hmac.compare_digest(_shown_token(scope), token):
            return None
        return Answer.plain(
            HTTPStatus.UNAUTHORIZED,
            "send the token of status_app() in the Authorization header, as Bearer or as the password of Basic",
            _CHALLENGE,
        )
    reason = _why_not_local(scope)
    return None if reason is None else Answer.plain(HTTPStatus.FORBIDDEN, f"{reason}; {_REMEDY}")


def has_token_parameter(query: str) -> bool:
    """Tell whether a URL's query has a parameter that is named like a secret."""
    return any(name.lower() in _TOKEN_PARAMETERS for name, _ in _parameters(query))


def _why_not_local(scope: Scope) -> str | None:
    client = scope.get("client")
    if not client or not _is_loopback(client[0]):
        return "only clients on this machine's loopback address may look"
    names = [name.lower() for name, _ in scope.get("headers", ())]
    # HTTP/1.0 is what a bare proxy speaks that adds no header, nginx's old default.
    if scope.get("http_version") == "1.0" or any(
        name == b"via" or any(word in name for word in _PROXY_WORDS) for name in names
    ):
        return "the request came through a proxy, so that its client may be anyone"
    if not all(_is_local_name(host) for host in header_values(scope, b"host")):
        return "the Host header is not localhost, 127.0.0.1 or [::1]; open the page under one of these names"
    for origin in header_values(scope, b"origin"):
        if not _is_local_name(origin.partition("://")[2]):
            return "the request was made by a web page from elsewhere"
    return None


def _is_loopback(host: object) -> bool:
    try:
        address = ipaddress.ip_address(str(host))
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return address.is_loopback or (mapped is not None and mapped.is_loopback)


def _is_local_name(host: str) -> bool:
    """Tell whether a `host` or `host:port` names this machine without asking any name server."""
    try:
        parts = urlsplit(f"//{host}")
        name, _ = parts.hostname, parts.port  # .port raises for one that is none
    except ValueError:
        return False
    if parts.netloc != host or parts.username is not None or name is None:
        return False
    return name == "localhost" or _is_loopback(name)


def _shown_token(scope: Scope) -> bytes:
    """Return the token that a request shows, b"" if it shows none or several."""
    values = header_values(scope, b"authorization")
    if len(values) != 1:
        return b""
    scheme, _, credentials = values[0].strip().partition(" ")
    credentials = credentials.strip()
    if scheme.lower() == "bearer":
        return credentials.encode("latin-1")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(credentials, validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return b""
    return b""


def _has_token_in_query(scope: Scope, token: bytes | None) -> bool:
    query = scope.get("query_string", b"").decode("latin-1")
    if has_token_parameter(query):
        return True
    texts = (text.encode("utf-8", "replace") for parameter in _parameters(query) for text in parameter)
    return token is not None and any(hmac.compare_digest(text, token) for text in texts)


def _parameters(query: str) -> list[tuple[str, str]]:
    return parse_qsl(query, keep_blank_values=True, errors="replace")
