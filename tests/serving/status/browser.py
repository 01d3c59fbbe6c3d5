"""Drive a real headless Chromium over its own pipe, without any library."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import itertools
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.support import need_tool

DEADLINE_SECONDS = 30.0
_SWITCHES = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
# Chromium reads commands from descriptor 3 and writes to 4.
_LAUNCH = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"

Event = dict[str, Any]


class Browser:
    """A Chromium with a fresh profile."""

    def __init__(self, profile: Path) -> None:
        program = need_tool("chromium", "chromium")
        ours, self._commands = os.pipe()
        self._answers, theirs = os.pipe()
        # Out of the way of 3 and 4.
        passed = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (ours, theirs)]
        os.close(ours)
        os.close(theirs)
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                _LAUNCH,
                *map(str, passed),
                program,
                *_SWITCHES,
                f"--user-data-dir={profile}",
            ],
            pass_fds=passed,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in passed:
            os.close(end)
        self._numbers = itertools.count(1)
        self._buffer = b""
        self.events: list[Event] = []

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send a command of the DevTools protocol and return its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            answer = self._message(deadline, method)
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def wait_for(self, session: str, what: Callable[[Event], bool], why: str) -> Event:
        """Return the first event, past or to come, of which `what` is true."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        for event in itertools.chain(list(self.events), iter(lambda: self._recorded(deadline, why), None)):
            if event.get("sessionId") == session and what(event):
                return event
        raise AssertionError(why)

    def close(self) -> None:
        """End the browser and wait for it."""
        with contextlib.suppress(OSError):
            os.write(self._commands, b'{"id": 0, "method": "Browser.close"}\0')
        try:
            self._process.wait(DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(DEADLINE_SECONDS)
        os.close(self._commands)
        os.close(self._answers)

    def _recorded(self, deadline: float, why: str) -> Event:
        event = self._message(deadline, why)
        self.events.append(event)
        return event

    def _message(self, deadline: float, why: str) -> Event:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"Chromium did not answer within {DEADLINE_SECONDS} s: {why}"
            read = os.read(self._answers, 1 << 20)
            assert read, f"Chromium ended: {why}"
            self._buffer += read
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: Event = json.loads(text)
        return message


class Page:
    """One page in a browser context of its own, and everything that it asked the network for."""

    def __init__(self, browser: Browser, *, width: int, height: int, dark: bool, scripts: bool) -> None:
        self._browser = browser
        self.context = browser.call("Target.createBrowserContext")["browserContextId"]
        target = browser.call("Target.createTarget", url="about:blank", browserContextId=self.context)
        self.session: str = browser.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command to this page."""
        return self._browser.call(method, self.session, **parameters)

    def wait_for(self, what: Callable[[Event], bool], why: str) -> Event:
        """Return the first event of this page of which `what` is true."""
        return self._browser.wait_for(self.session, what, why)

    def open(self, url: str) -> None:
        """Go to a URL and return when it is loaded."""
        self.forget()
        self.call("Page.navigate", url=url)
        self.wait_for(lambda event: event["method"] == "Page.loadEventFired", f"{url} is loaded")

    def forget(self) -> None:
        """Forget the events so far."""
        self._browser.events.clear()

    def evaluate(self, expression: str) -> Any:
        """Return the value of JavaScript in the page, of a promise what it resolves to."""
        done = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def events(self, method: str) -> list[dict[str, Any]]:
        """Return the parameters of this page's events of one kind."""
        return [
            event["params"]
            for event in self._browser.events
            if event.get("sessionId") == self.session and event["method"] == method
        ]

    def requested(self) -> list[str]:
        """Return the URLs of all requests since the page was opened."""
        return [event["request"]["url"] for event in self.events("Network.requestWillBeSent")]

    def complaints(self) -> list[str]:
        """Return errors of scripts and what the browser logged, such as breaches of the policy."""
        logged = [event["entry"]["text"] for event in self.events("Log.entryAdded")]
        thrown = [event["exceptionDetails"]["text"] for event in self.events("Runtime.exceptionThrown")]
        return logged + thrown

    def screenshot(self, path: Path) -> bytes:
        """Write a picture of the whole page."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        taken = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        picture = base64.b64decode(taken["data"])
        path.write_bytes(picture)
        return picture

    def close(self) -> None:
        """Forget the page, its cookies and its cache."""
        self._browser.call("Target.disposeBrowserContext", browserContextId=self.context)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Run a Chromium; leave no process and no file."""
    with tempfile.TemporaryDirectory(prefix="pool-exporter-", ignore_cleanup_errors=True) as directory:
        browser = Browser(Path(directory))
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def a_page(
    browser: Browser, *, width: int = 1280, height: int = 900, dark: bool = False, scripts: bool = True
) -> Iterator[Page]:
    """Make a page of a size and a colour scheme, with or without JavaScript."""
    page = Page(browser, width=width, height=height, dark=dark, scripts=scripts)
    try:
        yield page
    finally:
        page.close()
