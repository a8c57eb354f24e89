"""Acceptance banks: read, generate, sample onto a trace."""
