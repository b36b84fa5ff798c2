"""One suite, every engine that runs here."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))

import databases
from databases import Engine

ENGINES = os.environ.get(
    "ENGINES", "postgres postgres-psycopg postgres-psycopg2 duckdb sqlite redshift generic"
).split()
"""Which to hold to the suite; those of `make warehouses` need servers and packages that do not go with Airflow's."""

collect_ignore = [] if {"bigquery", "databricks"} & {*ENGINES} else ["test_lakes.py"]

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres_uri() -> Iterator[str]:
    """A PostgreSQL server, once for all tests."""
    with databases.postgres_server() as uri:
        yield uri


@pytest.fixture(scope="session")
def mariadb_address() -> Iterator[dict[str, Any]]:
    """A MariaDB server, once for all tests."""
    with databases.mariadb_server() as address:
        yield address


@pytest.fixture(scope="session")
def clickhouse() -> Iterator[Engine]:
    """A ClickHouse, once for all tests."""
    with databases.clickhouse_server() as engine:
        yield engine


@pytest.fixture(scope="session")
def snowflake_account() -> Iterator[Callable[..., Any]]:
    """A Snowflake of this process's own, and how to connect to it."""
    with databases.snowflake_account() as connect:
        yield connect


@pytest.fixture(scope="session")
def bigquery() -> Iterator[Any]:
    """An emulated BigQuery, once for all tests."""
    with databases.bigquery_server() as client:
        yield client


@pytest.fixture(scope="session")
def spark() -> Iterator[Any]:
    """A server that speaks Spark's SQL, once for all tests."""
    with databases.spark_server() as connection:
        yield connection


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    """An engine, with a schema of its own and no tables yet."""
    return make_engine(request.param, request.getfixturevalue, tmp_path)


def make_engine(name: str, fixture: Callable[[str], Any], folder: Path) -> Engine:
    """The engine of this name; servers are started when they are first needed."""
    schema = f"test {next(_numbers)}"
    match name:
        case "duckdb":
            return databases.duckdb_engine(folder)
        case "sqlite":
            return databases.sqlite_engine(folder)
        case "generic":
            uri = fixture("postgres_uri")
            return databases.fresh_schema(
                databases.postgres_engine(uri, driver="psycopg", dialect="generic"), schema
            )
        case "clickhouse":
            made = replace(fixture("clickhouse"), schema=schema)
            made.run(f"CREATE DATABASE `{schema}`")
            return made
        case "redshift":
            return databases.fresh_schema(databases.redshift_stand_in(fixture("postgres_uri")), schema)
        case "snowflake":
            return databases.snowflake_schema(f"TEST_{next(_numbers)}", fixture("snowflake_account"))
        case "bigquery":
            return databases.bigquery_dataset(f"test_{next(_numbers)}", fixture("bigquery"))
        case "databricks":
            return databases.databricks_schema(schema, fixture("spark"))
        case "mariadb" | "mariadb-load-data":
            made = databases.mariadb_engine(
                fixture("mariadb_address"), local_infile=name == "mariadb-load-data"
            )
            made.run(f"CREATE DATABASE `{schema}`")
            made.schema = schema
            return made
        case _:
            driver = name.partition("-")[2] or "adbc"
            uri = fixture("postgres_uri")
            return databases.fresh_schema(databases.postgres_engine(uri, driver=driver), schema)
