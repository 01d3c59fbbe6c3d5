"""Let the assertions of shared modules say what they compared, as those of tests do."""

import pytest

# Before anything imports them.
pytest.register_assert_rewrite(
    "tests.laws",
    "tests.servers",
    "tests.postgres",
    "tests.capture.engines.databases",
    "tests.capture.scenarios.harness",
)
