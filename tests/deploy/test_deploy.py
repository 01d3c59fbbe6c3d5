"""What is shipped to be deployed is right as far as that can be seen without Docker and Kubernetes."""

from __future__ import annotations

import ast
import copy
import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pool_exporter.dashboards import NAMES
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
    assert len(images) == 5
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
    config = yaml.safe_load(text)
    (targets,) = (one["static_configs"][0]["targets"] for one in config["scrape_configs"])
    assert targets == ["application:8000"]
    assert set(COMPOSE["services"]) >= {"application", "alertmanager"}


def test_alertmanager_accepts_its_configuration() -> None:
    """`amtool check-config` succeeds on the file that is mounted."""
    amtool = need_tool("amtool", "prometheus-alertmanager")
    (path,) = (path for name, path, _ in mounted() if name == "alertmanager")
    done = subprocess.run([amtool, "check-config", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def database() -> Iterator[PostgresServer]:
    with running_server() as server:
        yield server


@pytest.mark.parametrize("scenario", ["healthy", "leak"])
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

    wanted = 'sqlalchemy_pool_owner_connections{owner="' + (
        'POST /orders/{id}/refund",pool="shop"} 10.0' if scenario == "leak" else 'GET /orders",pool="shop"}'
    )
    with ending(program):
        until(lambda: wanted in metrics(), f"{wanted} is among the metrics")
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


def test_generated_manifests_are_up_to_date() -> None:
    """Regenerating changes nothing."""
    done = subprocess.run(
        [sys.executable, str(DEPLOY / "kubernetes" / "generate.py"), "--check"],
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
