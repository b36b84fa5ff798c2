"""Benchmarks: exports, database loads, reading speed, requests per export, and deferred sensors."""
