"""Let `python -m pool_exporter` be the command `pool-exporter`."""

from __future__ import annotations

import sys

from pool_exporter.cli import main

if __name__ == "__main__":
    sys.exit(main())
