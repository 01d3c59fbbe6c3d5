"""Measure what importing pool_exporter takes, as a ratio to importing what it stands on.

Each import runs in a new interpreter, which times it by itself, without its own start. In each
round every arm runs once, in an order shuffled by `--seed`; ratios are to the first arm of the
same round, medians with quartiles; the second arm is the same again, as a control. Every
import ran once before the first round, so that byte code is compiled (written, whatever
PYTHONDONTWRITEBYTECODE says) and files are in the system's cache. Times are milliseconds of
CPU; ratios have no unit.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from typing import Any

from _common import ROOT, arguments, budget, machine, positive, report, summary, table

BASE = "sqlalchemy + prometheus_client"
OURS = "pool_exporter"
ARMS = {
    BASE: "import sqlalchemy, prometheus_client",
    f"{BASE} again (control)": "import sqlalchemy, prometheus_client",
    "sqlalchemy.ext.asyncio + prometheus_client": "import sqlalchemy.ext.asyncio, prometheus_client",
    OURS: "import pool_exporter",
}
_TIMED = """\
import time
began = time.process_time()
{statement}
print(time.process_time() - began)
"""


def seconds(statement: str) -> float:
    """Return the CPU seconds of an import statement in a new interpreter."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    process = subprocess.run(
        [sys.executable, "-c", _TIMED.format(statement=statement)],
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return float(process.stdout)


def run(rounds: int, seed: int) -> dict[str, Any]:
    """Measure every arm in every round."""
    found = machine()
    rng = random.Random(seed)
    taken: dict[str, list[float]] = {name: [] for name in ARMS}
    for statement in ARMS.values():
        seconds(statement)
    order = list(ARMS)
    for _ in range(rounds):
        rng.shuffle(order)
        for name in order:
            taken[name].append(seconds(ARMS[name]))
    arms = {
        name: {
            "ratio": summary([mine / base for mine, base in zip(values, taken[BASE], strict=True)]),
            "milliseconds": summary([value * 1e3 for value in values]),
        }
        for name, values in taken.items()
    }
    return {
        "program": "import_time",
        "machine": found,
        "rounds": rounds,
        "seed": seed,
        "arms": arms,
        "budgets": [budget(f"import of {OURS}, ratio", arms[OURS]["ratio"]["median"], 1.1)],
    }


def shown(arms: dict[str, dict[str, Any]]) -> str:
    """Return the table."""
    rows = []
    for name, arm in arms.items():
        ratio, taken = arm["ratio"], arm["milliseconds"]
        rows.append(
            (
                name,
                f"{ratio['median']:.3f}",
                f"{ratio['q1']:.3f}-{ratio['q3']:.3f}",
                f"{taken['median']:.0f}",
            )
        )
    return table(("import of", "ratio", "quartiles", "ms of CPU"), rows) + "\n"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=positive, default=25, help="rounds (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the order of the arms (%(default)s)")
    options = parser.parse_args()
    result = run(options.rounds, options.seed)
    report(result, shown(result["arms"]), as_json=options.as_json)


if __name__ == "__main__":
    main()
