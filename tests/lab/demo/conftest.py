"""Give each test a demo with a directory of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.demo.running import Demo, a_demo


@pytest.fixture
def demo() -> Iterator[Demo]:
    """Return a demo that has not started yet."""
    with a_demo() as demo:
        yield demo
