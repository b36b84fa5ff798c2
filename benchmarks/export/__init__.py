"""Benchmark of whole exports, run by `make bench`."""
