"""Tests of rules, dashboards and deployment files."""
