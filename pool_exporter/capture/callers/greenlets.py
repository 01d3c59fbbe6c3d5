"""The greenlet in progress, without importing greenlet."""

from __future__ import annotations

import sys
from typing import Any


def current_greenlet() -> Any:
    """Return the greenlet in progress, None where there can be none: nobody has imported them.

    Not imported here: SQLAlchemy 2.1 installs greenlet only with its asyncio extra, and a synchronous
    application has no use for it.
    """
    greenlet = sys.modules.get("greenlet")
    getcurrent = getattr(greenlet, "getcurrent", None)  # absent while it is still being imported
    return None if getcurrent is None else getcurrent()
