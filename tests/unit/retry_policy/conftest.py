"""Retry policies came with Airflow 3.3; before that there is nothing to test."""

from __future__ import annotations

from importlib.util import find_spec

NEEDS = "airflow.sdk.definitions.retry_policy"

try:
    collect_ignore = [] if find_spec(NEEDS) else ["test_retry_policy.py"]
except ModuleNotFoundError:  # a package on the way is missing, too
    collect_ignore = ["test_retry_policy.py"]
