"""Profiles and runs on disk."""
