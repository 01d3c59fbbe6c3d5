"""The compose file and what it mounts and builds are right as far as that can be seen without Docker."""

from __future__ import annotations

import copy
import json
import re
import subprocess
from importlib.metadata import requires
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pool_exporter.monitoring.dashboards import NAMES
from pool_exporter_lab.demo.scenarios import SCENARIOS
from tests.monitoring.dashboards.node import run_node
from tests.monitoring.deploy.files import COMPOSE, DEPLOY, ROOT, Json, mounted
from tests.support import need_tool


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
    folder = provider["options"]["path"]
    # Not the whole directory: recorded-fleet.json has the uid of fleet.json.
    found = {Path(target).stem: path for target, path in places.items() if str(Path(target).parent) == folder}
    assert set(found) == set(NAMES)
    home = COMPOSE["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert places[home].is_file()
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


def test_the_compose_file_names_every_scenario_that_the_application_plays() -> None:
    """What may stand in SCENARIO is in the comment."""
    text = (DEPLOY / "compose.yaml").read_text("utf-8")
    (comment,) = re.findall(r"SCENARIO: .+# (.+)", text)
    assert re.split(r", | or ", comment) == [name for name, one in SCENARIOS.items() if not one.restarts]
