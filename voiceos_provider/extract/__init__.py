"""Exact reading of an interval of creation time."""
