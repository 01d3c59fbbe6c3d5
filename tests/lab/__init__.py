"""Tests of the demo and the drills."""
