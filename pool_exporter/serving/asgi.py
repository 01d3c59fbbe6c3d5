"""Read requests from, and send whole answers to, an ASGI server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any, NamedTuple

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]


class Answer(NamedTuple):
    """Hold one answer: status, content type, body, and headers besides its type and length."""

    status: HTTPStatus
    content_type: str
    body: bytes
    headers: Headers = ()

    @classmethod
    def plain(cls, status: HTTPStatus, remedy: str, headers: Headers = ()) -> Answer:
        """Return an answer in plain words."""
        body = f"{status.value} {status.phrase}: {remedy}\n".encode()
        return cls(status, "text/plain; charset=utf-8", body, headers)


async def send_answer(send: Send, method: str, answer: Answer) -> None:
    """Send an answer, to HEAD without its body."""
    headers = [
        (b"content-type", answer.content_type.encode("latin-1")),
        (b"content-length", b"%d" % len(answer.body)),
        *answer.headers,
    ]
    await send({"type": "http.response.start", "status": int(answer.status), "headers": headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else answer.body})


def with_headers(send: Send, headers: Headers) -> Send:
    """Return a `send` that adds headers to every answer that does not have them."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = list(message.get("headers", ()))
            names = {name.lower() for name, _ in given}
            message = {
                **message,
                "headers": [*given, *((name, value) for name, value in headers if name not in names)],
            }
        await send(message)

    return sending


def header_values(scope: Scope, name: bytes) -> list[str]:
    """Return the values of all headers of a name (in lower case), in their order."""
    return [value.decode("latin-1") for key, value in scope.get("headers", ()) if key.lower() == name]


def relative_path(scope: Scope) -> str:
    """Return the path below `root_path`, which a server may or may not have put in front of it."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    return path.removeprefix(root) if path == root or path.startswith(root + "/") else path
