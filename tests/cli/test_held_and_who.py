"""Check the commands that read the page of a running process: held and who."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route

from pool_exporter.cli import main
from pool_exporter.cli.printing import aligned
from tests.serving.asgi import running
from tests.serving.status.records import HOSTILE, busy, full_of_leaks, held, leaking, status
from tests.serving.status.serving import page_of, showing

TOKEN = "correct horse battery"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command and return its exit code and what it printed; no token is set."""
    monkeypatch.delenv("POOL_EXPORTER_TOKEN", raising=False)

    def running_it(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return running_it


@contextmanager
def answering(answer: Response | Callable[[Request], Response]) -> Iterator[str]:
    """Run a server that gives the same answer at every path."""

    def endpoint(request: Request) -> Response:
        return answer if isinstance(answer, Response) else answer(request)

    with running(Starlette(routes=[Route("/{path:path}", endpoint)])) as url:
        yield url


@contextmanager
def a_silent_server(said: bytes | None) -> Iterator[str]:
    """Listen, and to the first client say these bytes and hang up, or say nothing at all."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        done = threading.Event()

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                if said is None:
                    done.wait()
                else:
                    client.recv(65536)
                    client.sendall(said)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        done.set()
        thread.join()


# held


def test_held_prints_a_table_for_each_pool(run: Run) -> None:
    """Each pool has its verdict and its holders in aligned columns."""
    with showing(lambda: [status(leaking(), held()), busy(), status(name="legacy")]) as url:
        code, out, err = run("held", url)
    assert (code, err) == (0, "")
    assert out == (
        "orders: leak: 1 of 2 uses overdue, from POST /chat/stream; the oldest 12 min 5 s\n"
        "OWNER              AGE         QUIET       STATE                         ACQUIRED IN"
        "                              TASK      NOW IN                              PID   PORT   TRACE\n"
        "POST /chat/stream  12 min 5 s  12 min 5 s  overdue: idle in transaction  "
        "shop.auth:get_current_user (auth.py:88)  Task-100  asyncio.queues:get (queues.py:158)  5000  40000  "
        "0af7651916cd43dd8448eb211c80319c\n"
        "GET /orders/{id}   40 ms       40 ms       -                             "
        "shop.orders:get_order (orders.py:42)     Task-7    -                                   4711  51234  "
        "0af7651916cd43dd8448eb211c80319c\n"
        "\n"
        "reports: busy: 1 use, 40 ms old\n"
        "OWNER             AGE    QUIET  STATE  ACQUIRED IN                           TASK    NOW IN  PID   PORT"
        "   TRACE\n"
        "GET /orders/{id}  40 ms  40 ms  busy   shop.orders:get_order (orders.py:42)  Task-7  -       4711  51234"
        "  0af7651916cd43dd8448eb211c80319c\n"
        "\n"
        "legacy: idle: 3 open, none in use\n"
    )


def test_held_prints_the_same_as_json(run: Run) -> None:
    """With --json, name, verdict and all fields of the holders come as one document."""
    with showing(lambda: [full_of_leaks()]) as url:
        code, out, _ = run("held", url, "--json")
    (pool,) = json.loads(out)["pools"]
    assert code == 0
    assert pool.keys() == {"name", "verdict", "held"}
    assert pool["verdict"]["state"] == "full_leak"
    assert len(pool["held"]) == 15
    assert pool["held"][0]["backend_pid"] == 5000


def test_held_says_when_there_is_no_pool(run: Run) -> None:
    """A process without an instrumented engine is no failure, and is told what is missing."""
    with showing(list) as url:
        assert run("held", url) == (
            0,
            "no pool: that process has no instrumented engine; it needs instrument(engine)\n",
            "",
        )


@pytest.mark.parametrize("path", ["/pools", "/pools/", "/pools?format=html", "/pools/#top"])
def test_held_finds_the_page_where_it_is_mounted(run: Run, path: str) -> None:
    """The page's address is enough, with or without slash, whatever redirects there are."""
    with running(Starlette(routes=[Mount("/pools", page_of(busy()))])) as url:
        code, out, _ = run("held", url + path)
    assert code == 0
    assert out.startswith("reports: busy")


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_names_do_nothing_to_the_terminal(run: Run, text: str) -> None:
    """Nothing but printable characters and line ends reaches the terminal, and each holder has one line."""
    made = held(
        text, function=text, task_name=text, trace_id=text, stack=(text,), filename=text, statement=text
    )
    with showing(lambda: [status(made, name=text)]) as url:
        for arguments in (("held", url), ("held", url, "--json"), ("who", url, "4711")):
            code, out, err = run(*arguments)
            assert (code, err) == (0, "")
            assert out.replace("\n", "").isprintable()
        assert len(run("held", url)[1].splitlines()) == 3


def test_wide_letters_and_accents_are_aligned() -> None:
    """Columns are as wide as the letters look."""
    assert aligned(("A", "B"), [("日本", "x"), ("e\u0301", "y"), ("abcde", "z")]) == [
        "A      B",
        "日本   x",
        "e\u0301      y",
        "abcde  z",
    ]


def test_an_output_of_few_letters_gets_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the output cannot write a letter, its escape is printed, and no error is raised."""
    with showing(lambda: [status(held("日本"))]) as url:
        done = subprocess.run(
            [sys.executable, "-m", "pool_exporter", "held", url],
            env={"PYTHONIOENCODING": "ascii", "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            check=True,
        )
    assert rb"\u65e5\u672c" in done.stdout


def test_a_reader_that_leaves_ends_it_quietly() -> None:
    """When whoever reads the output is gone, the command ends with 1 and says nothing."""
    holders = [held(f"job {number}") for number in range(5000)]
    with showing(lambda: [status(*holders)]) as url:
        process = subprocess.Popen(
            [sys.executable, "-m", "pool_exporter", "held", url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        with process.stderr:
            assert process.stderr.read() == b""
        assert process.wait() == 1


# who


def test_who_tells_whose_a_backend_is(run: Run) -> None:
    """A backend's pid is answered with everything about its holder, the stack from its inner end."""
    with showing(lambda: [busy(), full_of_leaks()]) as url:
        code, out, err = run("who", url, "5003")
    assert (code, err) == (0, "")
    assert out == (
        "backend pid 5003 in pool orders: held by POST /chat/stream\n"
        "  acquired in  shop.auth:get_current_user (/srv/shop/auth.py:88)\n"
        "  age          12 min 2 s, quiet for 12 min 2 s\n"
        "  state        overdue: idle in transaction\n"
        "  task         Task-103\n"
        "  now in       asyncio.queues:get (queues.py:158)\n"
        "               shop.chat:tokens (chat.py:31)\n"
        "               starlette.responses:stream_response (responses.py:257)\n"
        "               uvicorn.protocols.http:run_asgi (h11_impl.py:410)\n"
        "  backend pid  5003\n"
        "  client port  40003\n"
        "  trace        0af7651916cd43dd8448eb211c80319c\n"
    )


def test_who_finds_a_client_port_and_says_so(run: Run) -> None:
    """A client's port is answered too, and the answer says which of the two matched."""
    with showing(lambda: [status(held(local_port=51234, statement="SELECT 1", trace_id=None))]) as url:
        code, out, _ = run("who", url, "51234")
    assert code == 0
    assert out.startswith("client port 51234 in pool orders: held by GET /orders/{id}\n")
    assert "  statement    SELECT 1\n" in out
    assert "trace" not in out


def test_who_finds_every_match(run: Run) -> None:
    """A number that is one holder's pid and another's port is answered with both."""
    both = [held("a", backend_pid=5432, local_port=1), held("b", backend_pid=2, local_port=5432)]
    with showing(lambda: [status(*both)]) as url:
        _, out, _ = run("who", url, "5432")
    assert re.findall("^(.*) 5432 in pool orders: held by (.)$", out, re.MULTILINE) == [
        ("backend pid", "a"),
        ("client port", "b"),
    ]


def test_who_says_when_nobody_has_the_number(run: Run) -> None:
    """Without a match the exit code is 1, and one sentence says where else to look."""
    with showing(lambda: [status(held(), held(backend_pid=None, local_port=None))]) as url:
        assert run("who", url, "99") == (
            1,
            "",
            "pool-exporter who: error: no holder has the backend pid or client port 99; 2 hold a connection "
            "there, 1 of unknown pid and port; the connection may be idle in its pool, or belong to another "
            "process\n",
        )


@pytest.mark.parametrize("number", ["0", "-1", "x", "1.5", "٣", "9" * 30, "\x1b[31m"])
def test_who_refuses_what_is_no_pid_and_no_port(run: Run, number: str) -> None:
    """A number that cannot be one is a wrong call, and what was given is repeated harmlessly."""
    code, out, err = run("who", "http://127.0.0.1:1/", "--", number)
    assert (code, out) == (2, "")
    assert "give a backend's pid or a client port, such as 4711" in err
    assert "\x1b" not in err


# Failures: one line, a remedy, exit code 2


def assert_error(answer: tuple[int, str, str], *words: str) -> None:
    code, out, err = answer
    assert (code, out) == (2, "")
    assert err.startswith("pool-exporter held: error: ")
    assert err.count("\n") == 1
    for word in words:
        assert word in err


def test_nothing_listens(run: Run) -> None:
    """A refused connection says so."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert_error(run("held", f"http://127.0.0.1:{port}/"), "connection refused; start the process")


def test_the_token_is_missing_wrong_or_right(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that needs a token names the variable to set; the token comes from the environment only."""
    with showing(lambda: [busy()], token=TOKEN) as url:
        assert_error(run("held", url), "needs a token; set the environment variable POOL_EXPORTER_TOKEN")
        monkeypatch.setenv("POOL_EXPORTER_TOKEN", "not the right one")
        answer = run("held", url)
        assert_error(answer, "the token in POOL_EXPORTER_TOKEN is not the page's")
        assert "right one" not in answer[2]
        monkeypatch.setenv("POOL_EXPORTER_TOKEN", TOKEN)
        assert run("held", url)[0] == 0
        monkeypatch.setenv("POOL_EXPORTER_TOKEN", "")
        monkeypatch.setenv("OTHER", f"{TOKEN}\n")
        assert run("held", url, "--token-env", "OTHER")[0] == 0
        assert run("who", url, "4711", "--token-env", "OTHER")[0] == 0


def test_a_named_variable_must_be_set(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is asked for and not there, or that no header can carry, is an error."""
    monkeypatch.delenv("OTHER", raising=False)
    assert_error(run("held", "http://127.0.0.1:1/", "--token-env", "OTHER"), "--token-env OTHER: not set")
    monkeypatch.setenv("OTHER", "a\nb")
    assert_error(run("held", "http://127.0.0.1:1/", "--token-env", "OTHER"), "characters that no token has")


def test_the_page_refuses(run: Run) -> None:
    """What the page says with its 403 is passed on, because it names the remedy."""
    with answering(PlainTextResponse("403 Forbidden: only clients on this machine\n", 403)) as url:
        assert_error(run("held", url), "refused (403): only clients on this machine")
    with answering(Response("<h1>no</h1>", 403, media_type="text/html")) as url:
        assert_error(run("held", url), "refused (403): this page is for others")


def test_nothing_is_there(run: Run) -> None:
    """A 404 says what address is meant."""
    with showing(list) as url:
        assert_error(run("held", url + "/else"), "nothing there (404)", "where status_app() is served")


def test_the_page_is_broken(run: Run) -> None:
    """Another failure passes on what the page says, harmlessly."""
    with answering(PlainTextResponse("500 Error: broken\x1b[31m\nby night", 500)) as url:
        assert_error(run("held", url), r"answered 500: broken\x1b[31m\nby night")
    with answering(JSONResponse({}, 502)) as url:
        assert_error(run("held", url), "answered 502; the log of that process may say why")


@pytest.mark.parametrize("body", ["<html>", "{", "[" * 100_000, "\udcff"], ids=range(4))
def test_the_answer_is_no_json(run: Run, body: str) -> None:
    """Metrics, web pages and broken documents are told apart from a status page."""
    with answering(Response(body.encode("utf-8", "surrogateescape"), media_type="text/plain")) as url:
        assert_error(run("held", url), "answered text/plain, not the JSON of a status page")
    with showing(list) as url:
        assert_error(run("held", url + "/metrics"), "answered text/plain, not the JSON of a status page")


@pytest.mark.parametrize("document", [None, [], {}, {"pools": {}}, {"pools": [1]}], ids=str)
def test_the_json_is_of_something_else(run: Run, document: Any) -> None:
    """JSON that is no status page's is an error too."""
    with answering(JSONResponse(document)) as url:
        assert_error(run("held", url), "answered JSON, but not that of a status page")


def test_a_page_of_another_version_is_read_as_far_as_it_goes(run: Run) -> None:
    """Missing, unknown and nonsensical fields of a pool or a holder break nothing."""
    odd = {"owner": 1, "age_seconds": "x", "stack": [1, "frame"], "backend_pid": True, "overdue": "new\nkind"}
    pools = [{}, {"name": "a", "held": [{}, odd, 3], "verdict": 1}, {"name": "b", "held": 5, "new": 1}]
    with answering(JSONResponse({"pools": pools})) as url:
        code, out, err = run("held", url)
    assert (code, err) == (0, "")
    assert "unknown  0 s  0 s    overdue: new\\nkind  -            -     frame   -    -     -" in out


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://127.0.0.1/", "not an http or https URL"),
        ("file:///etc/passwd", "not an http or https URL"),
        ("127.0.0.1:8000", "not an http or https URL"),
        ("http://", "not an http or https URL"),
        ("", "not an http or https URL"),
        ("http://127.0.0.1:port/", "URL: Port could not be cast"),
        ("http://127.0.0.1:99999/", "URL: Port out of range"),
        ("http://[::1/", "URL: Invalid IPv6 URL"),
        ("http://a b/", "characters that no host name has"),
        ("http://bücher.example/", "characters that no host name has"),
        ("http://a..b/", "http://a..b/: "),
    ],
)
def test_the_url_is_wrong(run: Run, url: str, words: str) -> None:
    """A URL that leads nowhere is an error that says what would be right."""
    assert_error(run("held", url), words, "such as http://127.0.0.1:8000/pools/")


@pytest.mark.parametrize(
    "url",
    [
        "http://:hunter2@127.0.0.1/",
        "http://hunter2@127.0.0.1/",
        "http://127.0.0.1/?token=hunter2",
        "ftp://x/?Token=hunter2",
    ],
)
def test_a_secret_in_the_url_is_neither_sent_nor_repeated(run: Run, url: str) -> None:
    """A URL with a password or token is refused before anything is asked, and not repeated."""
    answer = run("held", url)
    assert_error(answer, "set the environment variable POOL_EXPORTER_TOKEN")
    assert "hunter2" not in answer[2]


def test_the_process_is_stuck(run: Run) -> None:
    """A process that does not answer is given up after the timeout, which the message names."""
    with a_silent_server(None) as url:
        assert_error(run("held", url, "--timeout", "0.2"), "no answer within 0.2 s; the process may be stuck")


def test_something_else_listens(run: Run) -> None:
    """A server that does not speak HTTP, or hangs up, is told apart."""
    with a_silent_server(b"SSH-2.0-OpenSSH_9.2\r\n") as url:
        assert_error(run("held", url), "does not speak HTTP")
    with a_silent_server(b"") as url:
        assert_error(run("held", url), url)
    with showing(list) as url:
        assert_error(run("held", url.replace("http:", "https:")), "TLS failed", "whether it is http")


def test_the_token_does_not_follow_a_redirect_elsewhere(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A redirect to another server is an error that names it; the token is not sent there."""
    monkeypatch.setenv("POOL_EXPORTER_TOKEN", TOKEN)
    asked = []

    def elsewhere(request: Request) -> Response:
        asked.append(request.headers)
        return JSONResponse({"pools": []})

    with answering(elsewhere) as other, answering(RedirectResponse(other + "/there?x=1")) as url:
        assert_error(run("held", url), f"redirects to another server, {other}/there;")
    assert asked == []


def test_the_environments_proxies_are_not_used(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command connects to the page itself, so that no proxy sees the token."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with showing(lambda: [busy()]) as url:
        assert run("held", url)[0] == 0


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "x"])
def test_a_senseless_timeout_is_refused(run: Run, seconds: str) -> None:
    """A timeout that is no number of seconds above 0 is a wrong call."""
    code, _, err = run("held", "http://127.0.0.1:1/", "--timeout", seconds)
    assert code == 2
    assert "give a number of seconds above 0, such as 10" in err


@pytest.mark.parametrize("subcommand", ["held", "who"])
def test_help_names_the_token_variable(run: Run, subcommand: str) -> None:
    """--help is a success on stdout, and says where the token comes from."""
    code, out, _ = run(subcommand, "--help")
    assert code == 0
    assert "POOL_EXPORTER_TOKEN" in out
