"""Facts about engines: experimental ones, unique names, and limits of JSON."""

from __future__ import annotations

import json
import logging
import time

import duckdb
import pytest

from tests.support.exporting import export_pages, page
from voiceos_provider.load.sql import DIALECTS, dialect_named
from voiceos_provider.load.sql.capabilities import JsonLimits
from voiceos_provider.load.sql.destination import SqlDestination
from voiceos_provider.load.sql.dialects.duckdb import DuckDB
from voiceos_provider.load.sql.staging import is_within


def test_engines_that_were_never_run_are_experimental() -> None:
    """The set is exact."""
    experimental = {name for name in DIALECTS if dialect_named(name).capabilities.experimental}
    assert experimental == {"snowflake", "bigquery", "databricks", "redshift"}


@pytest.mark.parametrize("name", DIALECTS)
def test_dialect_has_a_type_for_each_kind_of_column(name: str) -> None:
    """Its capabilities have its name."""
    capabilities = dialect_named(name).capabilities
    assert capabilities.name == name
    assert set(capabilities.types) == {"text", "instant", "money", "number", "count", "flag", "json"}


def test_experimental_dialect_warns_once_per_load(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The warning names the engine."""
    from dataclasses import replace

    monkeypatch.setattr(DuckDB, "capabilities", replace(DuckDB.capabilities, experimental=True))
    destination = SqlDestination(duckdb.connect, dialect_named("duckdb"), uri="duckdb")
    with caplog.at_level(logging.WARNING):
        export_pages([page()], target=destination)
    assert caplog.text.count("The duckdb dialect is experimental") == 1


@pytest.mark.parametrize("name", ["postgres", "sqlite", "mysql"])
def test_derived_names_are_unique_and_fit(name: str) -> None:
    """A hash replaces the truncated part; the limit is in bytes."""
    dialect = dialect_named(name)
    limit = dialect.capabilities.max_identifier_bytes
    long = [f"{'ä' * 40}{end}_started_at_idx" for end in "ab"]
    made = [dialect.derived_name(one) for one in long]
    assert len(set(made)) == 2
    assert all(len(one.encode()) <= limit for one in made)
    assert dialect.derived_name("short_idx") == "short_idx"


@pytest.mark.parametrize(
    ("document", "limits", "within"),
    [
        ("[[[1]]]", JsonLimits(depth=3), True),
        ("[[[1]]]", JsonLimits(depth=2), False),
        (json.dumps("[[[[{{{{"), JsonLimits(depth=1), True),
        (json.dumps({'a"]': ['\\"[[']}), JsonLimits(depth=2), True),
        ("[1e307]", JsonLimits(exponents=(-307, 307)), True),
        ("[1e308]", JsonLimits(exponents=(-307, 307)), False),
        ("[1e-308]", JsonLimits(exponents=(-307, 307)), False),
        ("[1e99999999999999999999]", JsonLimits(exponents=(-307, 307)), False),
        ('{"kk": "long value"}', JsonLimits(key_bytes=2), True),
        ('{"kkk": 1}', JsonLimits(key_bytes=2), False),
        ('{"é": 1}', JsonLimits(key_bytes=1), False),
    ],
)
def test_document_is_measured_exactly(document: str, limits: JsonLimits, within: bool) -> None:  # noqa: FBT001
    """Brackets and digits within texts do not count."""
    assert is_within(document, limits) is within


def test_document_is_measured_in_linear_time() -> None:
    """The text may be anything that a caller says."""
    for piece in ('"\\', "[", '{"a":', '"', "1e", '\\"'):
        started = time.process_time()
        is_within(piece * 300_000, JsonLimits(depth=30, exponents=(-9, 9), key_bytes=9))
        assert time.process_time() - started < 5
