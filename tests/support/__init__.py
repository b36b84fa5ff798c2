"""Shared set-up for tests."""
