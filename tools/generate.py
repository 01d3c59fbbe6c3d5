"""Write every generated file of the repository, or compare: `python -m tools.generate [--check]`.

The dashboards need Python 3.11, whose SDK of Grafana's they are made with; before that they are left alone.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools import alert_tables, alerts, architecture, deploy, opentelemetry_table, readme_tables
from tools.imports import ROOT

GENERATORS = [alert_tables, alerts, architecture, deploy, opentelemetry_table, readme_tables]
if sys.version_info >= (3, 11):
    from tools.dashboards import generate as dashboards

    GENERATORS.append(dashboards)


def stale() -> dict[Path, str]:
    """Return the files that are not as their generators make them, with the text that they should have."""
    made = {path: text for generator in GENERATORS for path, text in generator.files().items()}
    return {
        path: text
        for path, text in made.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    }


def main() -> int:
    """Write or check the files and return the exit code: 1 if a check finds a stale file."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.generate", description="Write every generated file."
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file is stale")
    check = parser.parse_args().check
    found = stale()
    for path, text in found.items():
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        print(f"{'stale, run make generate:' if check else 'wrote'} {path.relative_to(ROOT)}")
    return 1 if check and found else 0


if __name__ == "__main__":
    sys.exit(main())
