"""The manifests are right as far as that can be seen without Kubernetes, and what is generated is up to date."""

from __future__ import annotations

import ast
import copy
import json
import re

import pytest
import yaml

from pool_exporter.monitoring.dashboards import NAMES
from tests.monitoring.dashboards.node import run_node
from tests.monitoring.deploy.files import DEPLOY, KUSTOMIZATION, MANIFESTS, ROOT, Json


def manifests() -> list[Json]:
    return [one for path in MANIFESTS for one in yaml.safe_load_all(path.read_text("utf-8"))]


def of_kind(kind: str) -> Json:
    (found,) = (one for one in manifests() if one["kind"] == kind)
    return found


def said_of_manifests(made: list[Json]) -> list[str | None]:
    found: list[str | None] = json.loads(run_node("manifests.mjs", stdin=json.dumps(made)))
    return found


def test_the_manifests_have_the_types_of_kubernetes() -> None:
    """Each manifest is valid by the models of Kubernetes and of the Prometheus operator."""
    made = manifests()
    assert {one["kind"] for one in made} == {
        *("Deployment", "NetworkPolicy", "PrometheusRule", "Service", "ServiceMonitor"),
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


def config_maps() -> list[Json]:
    """Return the ConfigMaps that kustomize generates for the dashboards."""
    folder = ROOT / "dashboards" / "prometheus"
    made: Json = yaml.safe_load((folder / "kustomization.yaml").read_text("utf-8"))
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": one["name"], "labels": made["generatorOptions"]["labels"]},
            "data": {
                key: (folder / file).read_text("utf-8")
                for key, _, file in (entry.partition("=") for entry in one["files"])
            },
        }
        for one in made["configMapGenerator"]
    ]


def test_the_dashboards_of_the_cluster_are_config_maps() -> None:
    """Each dashboard is in a ConfigMap of its own, which Grafana's sidecar finds and kubectl can apply."""
    maps = config_maps()
    assert [list(made["data"]) for made in maps] == [[f"sqlalchemy-pool-{name}.json"] for name in NAMES]
    assert said_of_manifests(maps) == [None] * len(maps)
    for made in maps:
        assert made["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert len(json.dumps(made)) < 262_144  # kubectl apply keeps it in an annotation, which holds no more


def test_one_command_applies_every_manifest() -> None:
    """`kubectl apply -k` takes each file of the folder, and the folder of the dashboards.

    Kustomize refuses single files outside of its own folder.
    """
    made = yaml.safe_load(KUSTOMIZATION.read_text("utf-8"))
    own = [name for name in made["resources"] if not name.startswith("..")]
    assert own == [path.name for path in MANIFESTS]
    (other,) = (KUSTOMIZATION.parent / name for name in made["resources"] if name not in own)
    assert (other / "kustomization.yaml").is_file()


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
