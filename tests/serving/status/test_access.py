"""Check who may look: this machine alone, or whoever shows the token."""

from __future__ import annotations

import base64
import logging

import pytest

from pool_exporter.serving.status.app import status_app
from tests.serving.asgi import ask
from tests.serving.status.records import busy
from tests.serving.status.serving import page_of

TOKEN = "correct horse: battery staple"
OTHER = "correct horse: battery stapler"
PATHS = ("", "/", "/metrics", "/metrics/", "/favicon.ico")


def basic(credentials: str) -> tuple[str, str]:
    return "Authorization", "Basic " + base64.b64encode(credentials.encode()).decode()


def bearer(token: str) -> tuple[str, str]:
    return "Authorization", f"Bearer {token}"


# Without a token


@pytest.mark.parametrize(
    "client", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"], ids=lambda host: f"from {host}"
)
async def test_this_machine_may_look(client: str) -> None:
    """Without a token, a client on any loopback address is answered."""
    assert (await ask(page_of(busy()), client=(client, 1))).status == 200


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "client",
    [
        None,
        ("10.0.0.7", 1),
        ("192.0.2.1", 1),
        ("::", 1),
        ("0.0.0.0", 1),
        ("::ffff:10.0.0.7", 1),
        ("", 0),
        ("testclient", 1),
    ],
    ids=str,
)
async def test_nobody_else_may_look(client: tuple[str, int] | None, path: str) -> None:
    """Without a token, others get a 403 with the remedy on every path, metrics included."""
    answer = await ask(page_of(busy()), path, client=client)
    assert answer.status == 403
    assert answer.text == (
        "403 Forbidden: only clients on this machine's loopback address may look; to allow others, give "
        "status_app() a token= and send it in the Authorization header\n"
    )


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "name",
    [
        "Forwarded",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Real-IP",
        "Via",
        "CF-Connecting-IP",
    ],
)
async def test_a_proxy_on_this_machine_lets_nobody_in(name: str, path: str) -> None:
    """A request that came through a proxy is refused, whatever it says: its client may be anyone."""
    answer = await ask(page_of(busy()), path, headers=[(name, "127.0.0.1")])
    assert answer.status == 403
    assert "came through a proxy" in answer.text
    assert "token=" in answer.text


async def test_a_bare_proxy_is_known_by_its_protocol() -> None:
    """HTTP/1.0, which nginx speaks to a server behind it when nothing else is set, is refused."""
    assert (await ask(page_of(busy()), http_version="1.0")).status == 403
    assert (await ask(page_of(busy()), http_version="1.1")).status == 200


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:8000", "[::1]", "[::1]:8000"]
)
async def test_the_hosts_own_names_are_allowed(host: str) -> None:
    """A Host header that names loopback is allowed, with any port."""
    assert (await ask(page_of(busy()), headers=[("Host", host)])).status == 200


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example:80",
        "evil.example:127.0.0.1",
        "localhost@evil.example",
        "me@localhost",
        "localhost/x",
        "localhost:x",
        "[::1",
        "10.0.0.7",
        "0.0.0.0:8000",
        "",
    ],
)
async def test_another_name_for_this_server_is_refused(host: str, path: str) -> None:
    """A Host header that is no loopback name is refused: a page elsewhere may have rebound its own name."""
    answer = await ask(page_of(busy()), path, headers=[("Host", host)])
    assert answer.status == 403
    assert "Host header" in answer.text


async def test_one_bad_host_of_two_is_refused() -> None:
    """Two Host headers must both be local."""
    headers = [("Host", "localhost"), ("Host", "evil.example")]
    assert (await ask(page_of(busy()), headers=headers)).status == 403


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost.evil.example", ""])
async def test_a_web_page_from_elsewhere_may_not_ask(origin: str) -> None:
    """A request of another origin is refused, so that a host that allows all origins gives nothing away."""
    assert (await ask(page_of(busy()), headers=[("Origin", origin)])).status == 403


async def test_a_local_web_page_may_ask() -> None:
    """A request of a local origin is answered."""
    assert (await ask(page_of(busy()), headers=[("Origin", "http://localhost:3000")])).status == 200


# With a token


@pytest.mark.parametrize("path", ["", "/", "/metrics", "/metrics/"])
@pytest.mark.parametrize(
    "header",
    [
        bearer(TOKEN),
        ("authorization", f"bearer   {TOKEN} "),
        basic(f":{TOKEN}"),
        basic(f"anybody:{TOKEN}"),
        ("Authorization", basic(f"x:{TOKEN}")[1].replace("Basic", "bAsIc")),
    ],
    ids=["bearer", "loose bearer", "no user", "any user", "loose basic"],
)
async def test_the_token_opens_everything_to_anyone(header: tuple[str, str], path: str) -> None:
    """With the token, a client from anywhere, through a proxy and by any name, is answered."""
    headers = [header, ("X-Forwarded-For", "192.0.2.1"), ("Host", "pools.example")]
    assert (await ask(page_of(busy(), token=TOKEN), path, client=None, headers=headers)).status == 200


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        [],
        [bearer(OTHER)],
        [bearer(TOKEN[:-1])],
        [bearer("")],
        [bearer(TOKEN), bearer(TOKEN)],
        [basic(f"{TOKEN}:")],
        [basic(f"x:{OTHER}")],
        [basic(TOKEN)],
        [("Authorization", f"Basic {TOKEN}")],
        [("Authorization", "Basic é")],
        [("Authorization", f"Digest {TOKEN}")],
        [("Authorization", TOKEN)],
        [("Authorization", "")],
        [("X-Token", TOKEN)],
    ],
    ids=range(14),
)
async def test_without_the_token_nobody_gets_in(headers: list[tuple[str, str]], path: str) -> None:
    """With a token set, whoever does not show it gets a 401 that makes browsers ask, loopback included."""
    answer = await ask(page_of(busy(), token=TOKEN), path, headers=headers)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == 'Basic realm="pool_exporter", charset="UTF-8"'
    assert "in the Authorization header" in answer.text


@pytest.mark.parametrize(
    "query",
    [
        f"token={TOKEN}",
        "token=",
        "TOKEN=guess",
        "access_token=guess",
        "format=json&api_key=guess",
        f"anything={TOKEN}",
        TOKEN,
        "x=correct+horse%3A+battery+staple",
    ],
)
@pytest.mark.parametrize("path", ["/", "/metrics"])
async def test_a_token_in_the_url_is_refused_and_not_repeated(
    query: str, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A token in the query is a 400 that says where it belongs, even beside the right header; nothing repeats it."""
    with caplog.at_level(logging.DEBUG):
        answer = await ask(page_of(busy(), token=TOKEN), path, query=query, headers=[bearer(TOKEN)])
    assert answer.status == 400
    assert "send it in the Authorization header" in answer.text
    assert "battery" not in answer.text + str(answer.headers) + caplog.text
    assert "guess" not in answer.text


async def test_a_token_in_the_url_is_refused_where_none_is_set() -> None:
    """Without a token set, a query that has one is refused too: somebody thinks that it protects."""
    assert (await ask(page_of(busy()), query="token=x")).status == 400


async def test_a_wrong_token_is_neither_logged_nor_repeated(caplog: pytest.LogCaptureFixture) -> None:
    """What a client shows in place of the token stays unsaid."""
    with caplog.at_level(logging.DEBUG):
        answer = await ask(page_of(busy(), token=TOKEN), headers=[bearer(OTHER)])
    assert "horse" not in answer.text + str(answer.headers) + caplog.text


@pytest.mark.parametrize("method", ["HEAD", "POST", "OPTIONS", "DELETE"])
async def test_every_method_needs_the_token(method: str) -> None:
    """No method gets around the token, nor says more than GET."""
    answer = await ask(page_of(busy(), token=TOKEN), method=method)
    assert answer.status == 401
    assert (answer.text == "") == (method == "HEAD")


@pytest.mark.parametrize(
    ("token", "error", "words"),
    [
        (b"0123456789abcdef", TypeError, "token is a bytes: expected text"),
        (12345678901234567890, TypeError, "token is a int: expected text"),
        ("", ValueError, "token has 0 characters, and needs 16 or more"),
        ("0123456789abcde", ValueError, "token has 15 characters, and needs 16 or more"),
        ("0123456789abcdé0", ValueError, "printable ASCII"),
        ("0123456789abcdef\n", ValueError, "printable ASCII"),
        (" 0123456789abcdef", ValueError, "without a space at either end"),
    ],
)
def test_a_bad_token_is_an_error_that_does_not_repeat_it(
    token: object, error: type[Exception], words: str
) -> None:
    """A token that cannot be right is an error at once, which says what would be and not what was given."""
    with pytest.raises(error, match=words) as caught:
        status_app(list, token=token)  # type: ignore[arg-type]  # wrong on purpose
    assert "1234" not in str(caught.value)
    assert isinstance(caught.value, TypeError) or "token_urlsafe" in str(caught.value)


def test_sixteen_characters_are_a_token() -> None:
    """The shortest token that is allowed has 16 characters."""
    status_app(list, token="0123456789abcdef")
