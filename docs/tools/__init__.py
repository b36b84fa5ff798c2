"""Generators of the pages, tables and pictures in docs/."""
