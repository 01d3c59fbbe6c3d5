"""Print every notice that Alertmanager sends here, a line for each alert: a stand-in for a pager and for tickets.

It listens on HOST and PORT, by default 127.0.0.1 and 9095, and needs nothing but Python.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MAX_BYTES = 1_000_000
SAID = ("summary", "description", "dashboard_url")


class Notices(BaseHTTPRequestHandler):
    """Take notices by POST."""

    def do_POST(self) -> None:
        """Print the alerts of a notice; answer with 400 what is none."""
        try:
            length = int(self.headers.get("Content-Length", "0"))
            if not 0 <= length <= MAX_BYTES:
                raise ValueError(f"more than {MAX_BYTES} bytes")
            lines = list(_lines(self.path.strip("/"), json.loads(self.rfile.read(length))))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            self.send_error(400, "not a notice of Alertmanager", _plain(str(error)))
            return
        for line in lines:
            print(line, flush=True)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Log no request: the notices are what is printed."""


def _lines(receiver: str, notice: Any) -> Iterator[str]:
    for alert in notice["alerts"]:
        annotations = alert["annotations"]
        said = [annotations[name] for name in SAID if annotations.get(name)]
        yield _plain(f"{receiver} {alert['status']} {alert['labels']['alertname']}: {' | '.join(said)}")


def _plain(text: str) -> str:
    return "".join(one if one.isprintable() else "?" for one in " ".join(text.split()))


def main() -> None:
    """Serve until a signal."""
    address = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "9095"))
    ThreadingHTTPServer(address, Notices).serve_forever()


if __name__ == "__main__":
    main()
