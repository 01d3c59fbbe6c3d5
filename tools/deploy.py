"""Write the files of this directory that are made of the rules, of Alertmanager's example and of the dashboards.

`python deploy/generate.py` rewrites them; `--check` exits with 1 if that would change one.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml

from pool_exporter.monitoring.dashboards import Words, dashboards, text_of
from pool_exporter.monitoring.rules import RuleOptions, rendered

HERE = Path(__file__).resolve().parent
EXAMPLE = HERE.parent / "alerts" / "alertmanager.example.yml"
GRAFANA = "http://127.0.0.1:3000"
"""Where the compose file publishes Grafana."""
RECEIVERS = ("http://127.0.0.1:9095/", "http://notices:9095/")
"""Where the example's notices go, and the compose file's service that prints them."""


class Block(str):
    """Text that YAML has as a block, line by line."""


yaml.SafeDumper.add_representer(
    Block, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style="|")
)


def config_maps() -> str:
    """Return a ConfigMap for each dashboard, with the label by which Grafana's sidecar finds it."""
    made = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": f"sqlalchemy-pool-{name}",
                "labels": {"app.kubernetes.io/name": "pool-exporter", "grafana_dashboard": "1"},
            },
            "data": {f"sqlalchemy-pool-{name}.json": Block(text_of(dashboard))},
        }
        for name, dashboard in dashboards(Words()).items()
    ]
    header = "# Made by deploy/generate.py of the dashboards; change its options, not this text.\n"
    return header + str(yaml.safe_dump_all(made, sort_keys=False, allow_unicode=True, width=1_000_000))


def alertmanager() -> str:
    """Return Alertmanager's configuration for the compose file: the example, with a receiver that is there."""
    text = EXAMPLE.read_text("utf-8")
    settings = text[text.index("route:\n") :]
    header = (
        "# Made by deploy/generate.py of alerts/alertmanager.example.yml: its notices go to the service that prints them.\n"
        "# See them with: docker compose --project-name pool-exporter logs --follow notices\n"
    )
    return header + settings.replace(*RECEIVERS)


def contents() -> dict[Path, str]:
    """Return the text of every generated file."""
    return {
        HERE / "prometheus" / "pool_exporter.rules.yml": rendered(
            RuleOptions(dashboard=f"{GRAFANA}/d/sqlalchemy-pool")
        ),
        HERE / "alertmanager" / "alertmanager.yml": alertmanager(),
        HERE / "kubernetes" / "prometheusrule.yaml": rendered(RuleOptions(format="prometheusrule")),
        HERE / "kubernetes" / "dashboards.yaml": config_maps(),
    }


def main() -> int:
    """Write or check the files and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if a file is stale")
    check = parser.parse_args().check
    stale = [
        path for path, text in contents().items() if not path.exists() or path.read_text("utf-8") != text
    ]
    for path in stale:
        if check:
            print(f"stale: {path.name}; run: python deploy/generate.py", file=sys.stderr)
        else:
            path.write_text(contents()[path], "utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
