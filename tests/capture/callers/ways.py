"""Helpers of the tests of ways to acquire."""

from __future__ import annotations

from sqlalchemy import text

SELECT = text("select 1")
