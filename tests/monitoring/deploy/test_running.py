"""What the compose file starts is started here without Docker: the application, what watches it, what prints its pages."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.demo.running import ending, until
from tests.monitoring.deploy.files import COMPOSE, DEPLOY, mounted
from tests.postgres import ROLE, PostgresServer
from tests.support import free_port, need_tool


def started(name: str, program: str, directory: Path, **changed: str) -> list[str]:
    """Return the command of a service, with another program's path, its files as they are here and some options changed."""
    places = {target: str(path) for service, path, target in mounted() if service == name}
    command = [program]
    for option in COMPOSE["services"][name]["command"]:
        key, value = option.removeprefix("--").split("=")
        if key in ("storage.path", "storage.tsdb.path"):
            value = str(directory / "data")
        command.append(
            f"--{key}={changed.pop(key.replace('.', '_').replace('-', '_'), places.get(value, value))}"
        )
    return [
        *command,
        *(f"--{key.replace('_', '.', 1).replace('_', '-')}={value}" for key, value in changed.items()),
    ]


def test_a_page_is_printed(tmp_path: Path) -> None:
    """A real Alertmanager with the mounted configuration and options sends a leak's page to the program that prints."""
    amtool = need_tool("amtool", "prometheus-alertmanager")
    program = need_tool("prometheus-alertmanager", "prometheus-alertmanager")
    (path,) = (path for name, path, _ in mounted() if name == "alertmanager")
    done = subprocess.run([amtool, "check-config", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    text = path.read_text("utf-8")
    assert set(re.findall(r"url: http://([\w:]+)/", text)) == {"notices:9095"}
    port, address = free_port(), f"127.0.0.1:{free_port()}"
    here = tmp_path / "alertmanager.yml"
    here.write_text(
        text.replace("notices:9095", f"127.0.0.1:{port}").replace("group_wait: 30s", "group_wait: 0s")
    )
    (mount,) = (source for name, source, _ in mounted() if name == "notices")
    command = started(
        "alertmanager",
        program,
        tmp_path,
        config_file=str(here),
        web_listen_address=address,
        cluster_listen_address="",
    )
    printed = tmp_path / "printed"
    environment = {**os.environ, "PORT": str(port)}
    with printed.open("w") as output, (tmp_path / "log").open("w") as log:
        notices = subprocess.Popen([sys.executable, str(mount)], env=environment, stdout=output, text=True)
        with ending(notices), ending(subprocess.Popen(command, stdout=log, stderr=log, text=True)):
            until(lambda: answered(f"http://{address}/-/ready") == "OK", "Alertmanager is ready")
            labels = {
                "alertname": "SQLAlchemyPoolExhaustedByLeak",
                "severity": "critical",
                "job": "shop",
                "pool": "shop",
            }
            annotations = {
                "summary": "Full by a leak",
                "description": "of\nPOST /x\x1b[31m",
                "dashboard_url": "http://g/d",
            }
            until(lambda: answered(f"http://127.0.0.1:{port}/") != "", "the program that prints answers")
            posted(f"http://{address}/api/v2/alerts", [{"labels": labels, "annotations": annotations}])
            until(printed.read_text, "the page is printed")
            assert answered(f"http://127.0.0.1:{port}/page", b"no notice") == "400"
    assert printed.read_text() == (
        "page firing SQLAlchemyPoolExhaustedByLeak: Full by a leak | of POST /x?[31m | http://g/d\n"
    )


def test_prometheus_starts_with_the_options_and_rules_of_the_compose_file(tmp_path: Path) -> None:
    """The Prometheus at hand knows each option, and loads the rules."""
    program = need_tool("prometheus", "prometheus")
    places = {target: path for name, path, target in mounted() if name == "prometheus"}
    text = places["/etc/prometheus/prometheus.yml"].read_text("utf-8")
    rules = places["/etc/prometheus/rules/pool_exporter.rules.yml"]
    here = tmp_path / "prometheus.yml"
    here.write_text(text.replace("/etc/prometheus/rules/*.rules.yml", str(rules)))
    address = f"127.0.0.1:{free_port()}"
    command = started("prometheus", program, tmp_path, config_file=str(here), web_listen_address=address)
    with (
        (tmp_path / "log").open("w") as log,
        ending(subprocess.Popen(command, stdout=log, stderr=log, text=True)),
    ):
        rules_url = f"http://{address}/api/v1/rules?type=alert"
        until(lambda: "SQLAlchemyPoolExhaustedByLeak" in answered(rules_url), "the rules are loaded")


def answered(url: str, body: bytes | None = None) -> str:
    """Return what is answered, the number of the status if it is an error, "" if nothing is."""
    try:
        with urllib.request.urlopen(url, body, timeout=5) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        return str(error.code)
    except OSError:
        return ""


def posted(url: str, body: object) -> None:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=5).close()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"SCENARIO": "leek"},
            "SCENARIO='leek': expected one of healthy, load, slow, leak, stream, collected, stale",
        ),
        ({"SCENARIO": "restart"}, "SCENARIO='restart': expected one of healthy, load"),
        (
            {"DATABASE_URL": ""},
            "DATABASE_URL is not set; name a PostgreSQL database, as in postgresql+asyncpg://",
        ),
        ({"DATABASE_URL": "database"}, "DATABASE_URL: cannot be read as an address; name a"),
        (
            {"DATABASE_URL": "sqlite:///:secret@"},
            "DATABASE_URL: its driver is sqlite; name another, as in postgresql+",
        ),
        ({"PORT": "http"}, "PORT='http': expected a number from 1 to 65535"),
        ({"PORT": "70000"}, "PORT='70000': expected a number from 1 to 65535"),
    ],
    ids=str,
)
def test_a_wrong_setting_of_the_application_is_named(changed: dict[str, str], said: str) -> None:
    """One line names the variable, the value and what would be right, and nothing is started."""
    environment = {**os.environ, "DATABASE_URL": "postgresql+asyncpg://shop:secret@127.0.0.1/shop", **changed}
    done = subprocess.run(
        [sys.executable, str(DEPLOY / "app" / "shop.py")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert said in done.stderr
    assert "secret" not in done.stderr


SHOWN = {
    "healthy": r'owner_connections\{owner="GET /orders",pool="shop"\}',
    "leak": r'owner_connections\{owner="POST /orders/\{id\}/refund",pool="shop"\} 10\.0',
    "stale": r'pre_ping_failures_total\{pool="shop"\} [1-9]',
}
"""What some scenarios make of the metrics."""


@pytest.fixture(scope="module")
def database(postgres: PostgresServer) -> Iterator[str]:
    """The address of a database of the application's own: other tests have a table of orders too."""
    with postgres.observer() as observer:
        observer.execute("create database shop")
        yield f"{ROLE}@127.0.0.1:{postgres.port}/shop"
        observer.execute("drop database shop with (force)")


@pytest.mark.parametrize("scenario", SHOWN)
def test_the_application_runs_on_a_database_of_its_own(database: str, scenario: str) -> None:
    """The container's program serves the pool's metrics on all addresses, its clients at work, until a SIGTERM."""
    port = free_port()
    environment = {
        **os.environ,
        "DATABASE_URL": f"postgresql+asyncpg://{database}",
        "SCENARIO": scenario,
        "PORT": str(port),
    }
    program = subprocess.Popen(
        [sys.executable, str(DEPLOY / "app" / "shop.py")], env=environment, stderr=subprocess.DEVNULL
    )

    def metrics() -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    with ending(program):
        until(lambda: re.search(f"^sqlalchemy_pool_{SHOWN[scenario]}", metrics(), re.M), SHOWN[scenario])
        program.terminate()
        assert program.wait(20) in (0, -15, 143)
