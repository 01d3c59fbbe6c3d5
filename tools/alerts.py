"""Write the rule files and inhibit_rules of this directory: what `pool-exporter alerts` prints without further options.

`python alerts/generate.py` rewrites them; `--check` exits with 1 if that would change one.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pool_exporter.catalogue.vocabularies import VOCABULARIES
from pool_exporter.monitoring.rules import RuleOptions, rendered, rendered_inhibition

HERE = Path(__file__).resolve().parent


def contents() -> dict[Path, str]:
    """Return the text of every generated file."""
    made = {}
    for vocabulary in VOCABULARIES:
        options = RuleOptions(vocabulary=vocabulary)
        made[HERE / f"{vocabulary}.rules.yml"] = rendered(options, "default")
        made[HERE / f"{vocabulary}.opt-in.rules.yml"] = rendered(options, "opt-in")
        prefix = "" if vocabulary == "prometheus" else f"{vocabulary}."
        made[HERE / f"{prefix}inhibit_rules.yml"] = rendered_inhibition(options)
    return made


def main() -> int:
    """Write or check the files and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if a file is stale")
    check = parser.parse_args().check
    stale = [path for path, text in contents().items() if not path.exists() or path.read_text() != text]
    for path in stale:
        if check:
            print(f"stale: {path.name}; run: python alerts/generate.py", file=sys.stderr)
        else:
            path.write_text(contents()[path])
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
