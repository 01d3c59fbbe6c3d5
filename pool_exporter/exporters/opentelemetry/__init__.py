"""Pools in OpenTelemetry's metrics."""
