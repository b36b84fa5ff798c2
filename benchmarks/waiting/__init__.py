"""Benchmark of deferred sensors under a real triggerer, run by `make waiting`."""
