"""Write the templates of the dashboards into the package, and the dashboards of both vocabularies beside this.

`python -m dashboards.generate` writes; `--check` exits with 1 if that would change a file. It needs Python 3.11.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pool_exporter.catalogue.vocabularies import VOCABULARIES
from pool_exporter.monitoring.dashboards import (
    FROM_RECORDED,
    TEMPLATES,
    Words,
    dashboard,
    dashboards,
    text_of,
)
from tools.dashboards import fleet, leak_hunt, pool
from tools.dashboards.queries import RECORDED, SCRAPED

HERE = Path(__file__).parent


def main() -> int:
    """Write or check the files and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 if a file would change"
    )
    checking = parser.parse_args().check
    made = {
        "recorded/fleet": fleet.made(RECORDED),
        "fleet": fleet.made(SCRAPED),
        "pool": pool.made(),
        "leak-hunt": leak_hunt.made(),
    }
    stale = _stale(
        {TEMPLATES / f"{name}.json": text_of(template) for name, template in made.items()}, checking
    )
    for vocabulary in VOCABULARIES.values():
        spelled = dashboards(Words(vocabulary))
        files = {HERE / vocabulary.name / f"{name}.json": text_of(one) for name, one in spelled.items()}
        for name in FROM_RECORDED:
            one = dashboard(name, Words(vocabulary, recorded=True))
            files[HERE / "recorded" / vocabulary.name / f"{name}.json"] = text_of(one)
        stale += _stale(files, checking)
    for path in stale:
        print(f"{'would change' if checking else 'wrote'} {path}")
    return 1 if checking and stale else 0


def _stale(files: dict[Path, str], checking: bool) -> list[Path]:
    """Return the files that are not as they ought to be, written unless only checking."""
    stale = [path for path, text in files.items() if not path.exists() or path.read_text("utf-8") != text]
    for path in stale if not checking else ():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files[path], "utf-8")
    return stale


if __name__ == "__main__":
    sys.exit(main())
