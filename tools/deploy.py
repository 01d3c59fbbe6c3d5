"""The files of `deploy/` that are made from the rules and from Alertmanager's example."""

from __future__ import annotations

from pathlib import Path

from pool_exporter.monitoring.rules import RuleOptions, rendered
from tools.imports import ROOT

DEPLOY = ROOT / "deploy"
EXAMPLE = ROOT / "alerts" / "alertmanager.example.yml"
GRAFANA = "http://127.0.0.1:3000"
"""Where the compose file publishes Grafana."""
RECEIVERS = ("http://127.0.0.1:9095/", "http://notices:9095/")
"""Where the example's notices go, and the compose file's service that prints them."""


def alertmanager() -> str:
    """Return Alertmanager's configuration for the compose file: the example, with a receiver that is there."""
    text = EXAMPLE.read_text("utf-8")
    settings = text[text.index("route:\n") :]
    header = (
        "# Made by tools/deploy.py from alerts/alertmanager.example.yml: its notices go to the service that prints them.\n"
        "# See them with: docker compose --project-name pool-exporter logs --follow notices\n"
    )
    return header + settings.replace(*RECEIVERS)


def files() -> dict[Path, str]:
    """Return the text of every generated file of the deployment, by path."""
    return {
        DEPLOY / "prometheus" / "pool_exporter.rules.yml": rendered(
            RuleOptions(dashboard=f"{GRAFANA}/d/sqlalchemy-pool")
        ),
        DEPLOY / "alertmanager" / "alertmanager.yml": alertmanager(),
        DEPLOY / "kubernetes" / "prometheusrule.yaml": rendered(RuleOptions(format="prometheusrule")),
    }
