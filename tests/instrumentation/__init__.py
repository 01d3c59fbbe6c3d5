"""Tests of instrument() and what it joins."""
