"""What is shipped to be deployed is right as far as that can be seen without Docker and Kubernetes."""

from __future__ import annotations

import ast
import copy
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pool_exporter.dashboards import NAMES
from pool_exporter.demo.scenarios import SCENARIOS
from tests.dashboards.node import run_node
from tests.demo.running import ending, until
from tests.postgres import DATABASE, ROLE, PostgresServer, running_server
from tests.support import free_port, need_tool

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parent.parent.parent
DEPLOY = ROOT / "deploy"
COMPOSE: Json = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))


def manifests() -> list[Json]:
    return [one for path in MANIFESTS for one in yaml.safe_load_all(path.read_text("utf-8"))]


def of_kind(kind: str) -> Json:
    (found,) = (one for one in manifests() if one["kind"] == kind)
    return found


def mounted() -> Iterator[tuple[str, Path, str]]:
    """Yield each service with the files that it mounts, and where."""
    for name, service in COMPOSE["services"].items():
        for volume in service.get("volumes", ()):
            source, target, mode = volume.split(":")
            assert mode == "ro"
            yield name, (DEPLOY / source).resolve(), target


# Compose


def said_of_compose(*files: Json) -> list[list[str]]:
    found: list[list[str]] = json.loads(run_node("compose.cjs", stdin=json.dumps(files)))
    return found


def test_the_compose_file_follows_its_specification() -> None:
    """The compose specification's own schema has nothing to say, and does have to of a mistake."""
    wrong = copy.deepcopy(COMPOSE)
    wrong["services"]["grafana"]["imagee"] = wrong["services"]["grafana"].pop("image")
    right, mistaken = said_of_compose(COMPOSE, wrong)
    assert right == []
    assert mistaken == ["/services/grafana must NOT have additional properties"]


def test_everything_that_is_mounted_is_there() -> None:
    """Each file and folder that a container is given is in the repository."""
    assert [path for _, path, _ in mounted() if not path.exists()] == []
    build = COMPOSE["services"]["application"]["build"]
    dockerfile = ROOT / build["dockerfile"]
    assert (DEPLOY / build["context"]).resolve() == ROOT
    for line in dockerfile.read_text("utf-8").splitlines():
        if line.startswith("COPY"):
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), source


def test_images_are_pinned_and_ports_are_on_this_machine_only() -> None:
    """No image is whatever is newest, and nothing is published to the network."""
    images = [service["image"] for service in COMPOSE["services"].values() if "image" in service]
    images += re.findall(r"^FROM (\S+)", (DEPLOY / "app" / "Dockerfile").read_text("utf-8"), re.M)
    assert len(images) == 6
    assert all(re.search(r":v?\d+\.\d+", image) for image in images), images
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_grafana_finds_the_dashboards_and_prometheus() -> None:
    """The provisioned folder is where the dashboards are mounted, the source is the service and the scrape interval its."""
    places = {target: path for name, path, target in mounted() if name == "grafana"}
    provisioning = places["/etc/grafana/provisioning"]
    (provider,) = yaml.safe_load((provisioning / "dashboards/pool_exporter.yml").read_text())["providers"]
    found = places[provider["options"]["path"]]
    assert {path.stem for path in found.glob("*.json")} == set(NAMES)
    home = COMPOSE["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (found / Path(home).relative_to(provider["options"]["path"])).exists()
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    assert source["type"] == "prometheus"
    assert source["url"] == "http://prometheus:9090"
    scrape = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    assert source["jsonData"]["timeInterval"] == scrape["global"]["scrape_interval"]


def ignored(path: str, patterns: list[str]) -> bool:
    """Return whether a .dockerignore of simple patterns leaves a path out: the last that matches decides."""
    left_out = False
    for pattern in patterns:
        bare = pattern.removeprefix("!")
        parts = Path(path).parts
        tops = ["/".join(parts[: length + 1]) for length in range(len(parts))]
        anywhere = bare.removeprefix("**/")
        if bare == "*" or bare in tops or (anywhere != bare and anywhere in parts):
            left_out = not pattern.startswith("!")
    return left_out


def test_the_image_is_built_of_what_it_needs_and_nothing_else() -> None:
    """Docker is sent what the Dockerfile copies; neither the history, nor environments, nor caches."""
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    copied = [
        source
        for line in (DEPLOY / "app" / "Dockerfile").read_text("utf-8").splitlines()
        if line.startswith("COPY")
        for source in line.split()[1:-1]
    ]
    assert [source for source in copied if ignored(source, patterns)] == []
    assert not ignored("pool_exporter/cli/__init__.py", patterns)
    for path in (".git/config", ".venv/bin/python", "tests/support.py", "pool_exporter/__pycache__/x.pyc"):
        assert ignored(path, patterns), path


def test_everything_that_pip_installs_into_the_image_is_pinned() -> None:
    """What the program imports, what that requires in turn, and what builds it has one version each."""
    text = (DEPLOY / "app" / "Dockerfile").read_text("utf-8")
    (command,) = re.findall(r"^RUN (PIP_CONSTRAINT=constraints\.txt pip install .+)$", text, re.M)
    lines = (DEPLOY / "app" / "constraints.txt").read_text("utf-8").splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    assert all([one.operator for one in pin.specifier] == ["=="] for pin in pins)
    pinned = {canonicalize_name(pin.name) for pin in pins}
    named = [word for word in command.split()[3:] if not word.startswith("-")]
    assert named[0] == "."
    needed = {"pool-exporter"}
    wanted = ["pool_exporter", "hatchling", *named[1:]]
    while wanted:
        for line in requires(wanted.pop()) or ():
            one = Requirement(line)
            if one.marker is None or one.marker.evaluate({"extra": ""}):
                name = canonicalize_name(one.name)
                wanted += [] if name in needed else [name]
                needed.add(name)
    needed |= {canonicalize_name(name) for name in ("hatchling", *named[1:])}
    assert needed - pinned == {"pool-exporter"}


def test_prometheus_accepts_its_configuration_and_rules(tmp_path: Path) -> None:
    """With the rules at the place where they are mounted `promtool check config` succeeds."""
    promtool = need_tool("promtool", "prometheus")
    places = {target: path for name, path, target in mounted() if name == "prometheus"}
    text = places["/etc/prometheus/prometheus.yml"].read_text("utf-8")
    (pattern,) = yaml.safe_load(text)["rule_files"]
    (rules,) = (path for target, path in places.items() if Path(target).match(pattern))
    (tmp_path / "x.rules.yml").write_text(rules.read_text("utf-8"), "utf-8")
    (tmp_path / "prometheus.yml").write_text(text.replace(pattern, str(tmp_path / "*.rules.yml")), "utf-8")
    done = subprocess.run(
        [promtool, "check", "config", str(tmp_path / "prometheus.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 rule files found" in done.stdout
    for group in yaml.safe_load(rules.read_text("utf-8"))["groups"]:
        for rule in group["rules"]:
            if "alert" in rule:
                grafana = COMPOSE["services"]["grafana"]["ports"][0].removesuffix(":3000")
                assert rule["annotations"]["dashboard_url"].startswith(f"http://{grafana}/d/sqlalchemy-pool?")
    config = yaml.safe_load(text)
    (targets,) = (one["static_configs"][0]["targets"] for one in config["scrape_configs"])
    assert targets == ["application:8000"]
    assert set(COMPOSE["services"]) >= {"application", "alertmanager"}


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


def test_the_compose_file_names_every_scenario_that_the_application_plays() -> None:
    """What may stand in SCENARIO is in the comment."""
    text = (DEPLOY / "compose.yaml").read_text("utf-8")
    (comment,) = re.findall(r"SCENARIO: .+# (.+)", text)
    assert re.split(r", | or ", comment) == [name for name, one in SCENARIOS.items() if not one.restarts]


@pytest.fixture(scope="module")
def database() -> Iterator[PostgresServer]:
    with running_server() as server:
        yield server


SHOWN = {
    "healthy": r'owner_connections\{owner="GET /orders",pool="shop"\}',
    "leak": r'owner_connections\{owner="POST /orders/\{id\}/refund",pool="shop"\} 10\.0',
    "stale": r'pre_ping_failures_total\{pool="shop"\} [1-9]',
}
"""What some scenarios make of the metrics."""


@pytest.mark.parametrize("scenario", SHOWN)
def test_the_application_runs_on_a_database_of_its_own(database: PostgresServer, scenario: str) -> None:
    """The container's program serves the pool's metrics on all addresses, its clients at work, until a SIGTERM."""
    port = free_port()
    environment = {
        **os.environ,
        "DATABASE_URL": f"postgresql+asyncpg://{ROLE}@127.0.0.1:{database.port}/{DATABASE}",
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


# Kubernetes


def said_of_manifests(made: list[Json]) -> list[str | None]:
    found: list[str | None] = json.loads(run_node("manifests.mjs", stdin=json.dumps(made)))
    return found


def test_the_manifests_have_the_types_of_kubernetes() -> None:
    """Each manifest is valid by the models of Kubernetes and of the Prometheus operator."""
    made = manifests()
    assert {one["kind"] for one in made} == {
        *("ConfigMap", "Deployment", "NetworkPolicy", "PrometheusRule", "Service", "ServiceMonitor"),
    }
    assert said_of_manifests(made) == [None] * len(made)


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("ServiceMonitor", "spec.endpoints", {}),
        ("PrometheusRule", "spec.groups", [{"rules": []}]),
        ("NetworkPolicy", "spec.ingress", "none"),
        ("Deployment", "spec.replicas", "two"),
    ],
)
def test_a_mistake_in_a_manifest_is_noticed(kind: str, path: str, value: object) -> None:
    """A value of another type, or without what is required, does not pass."""
    made = copy.deepcopy(of_kind(kind))
    first, last = path.split(".")
    made[first][last] = value
    (said,) = said_of_manifests([made])
    assert said is not None
    assert last in said


def test_generated_files_are_up_to_date() -> None:
    """Regenerating changes nothing."""
    done = subprocess.run(
        [sys.executable, str(DEPLOY / "generate.py"), "--check"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_dashboards_of_the_cluster_are_the_committed_ones() -> None:
    """Each ConfigMap holds one dashboard, and is small enough to be applied by kubectl."""
    maps = [one for one in manifests() if one["kind"] == "ConfigMap"]
    assert len(maps) == len(NAMES)
    for made, name in zip(maps, NAMES, strict=True):
        ((_, text),) = made["data"].items()
        assert text == (ROOT / "dashboards" / "prometheus" / f"{name}.json").read_text("utf-8")
        assert len(json.dumps(made)) < 262_144  # kubectl apply keeps it in an annotation, which holds no more


def test_selectors_and_ports_meet() -> None:
    """ServiceMonitor, Service and NetworkPolicy name labels and ports that the pods have."""
    pod = of_kind("Deployment")["spec"]["template"]
    labels = pod["metadata"]["labels"]
    ports = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
    service = of_kind("Service")
    monitor = of_kind("ServiceMonitor")["spec"]
    policy = of_kind("NetworkPolicy")["spec"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert {one["port"] for one in monitor["endpoints"]} <= {
        port["name"] for port in service["spec"]["ports"]
    }
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} == ports
    (open_to_all,) = (rule for rule in policy["ingress"] if "from" not in rule)
    assert open_to_all["ports"] == [{"port": "http"}]


def test_the_address_that_a_pod_must_bind_is_an_option_that_exists() -> None:
    """What the manifest advises is how `start_server` is called."""
    text = (DEPLOY / "kubernetes" / "application.yaml").read_text("utf-8")
    (call,) = re.findall(r"start_server\(.+?\)", text)
    parsed = ast.parse(call, mode="eval").body
    assert isinstance(parsed, ast.Call)
    assert [keyword.arg for keyword in parsed.keywords] == ["addr"]
