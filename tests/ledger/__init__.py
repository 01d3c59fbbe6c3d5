"""Tests of the books of one pool."""
