"""Arrival traces: read, shape, generate."""
