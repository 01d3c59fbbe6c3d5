"""Every row of SQLAlchemy's truth table as a test against a real database."""

import pytest

# Before anything imports them: their assertions are to show values too.
pytest.register_assert_rewrite("tests.laws", "tests.postgres", "tests.capture.scenarios.harness")
