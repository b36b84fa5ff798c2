"""Fixtures of the database tests: one suite for every engine."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support import databases
from tests.support.databases import Engine
from tests.support.tcp_proxy import TcpProxy, tcp_proxy

ENGINES = os.environ.get("ENGINES", "postgres duckdb sqlite").split()
"""Engines to test; `make warehouses` runs the others, and installs their packages."""

_PROXIED = [name for name in ENGINES if name in ("postgres", "mariadb", "bigquery", "databricks")]
"""Those that are separate processes."""

collect_ignore = [] if {"bigquery", "databricks"} & {*ENGINES} else ["test_lakes.py"]
collect_ignore += [] if _PROXIED else ["test_cut_off.py"]

_numbers = itertools.count(1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests of features that an engine lacks: `@pytest.mark.dialects(...)` names the engines with them."""
    left_out = [item for item in items if not _concerns_its_engine(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def _concerns_its_engine(item: pytest.Item) -> bool:
    marker, call = item.get_closest_marker("dialects"), getattr(item, "callspec", None)
    if marker is None or call is None or "engine" not in call.params:
        return True
    return call.params["engine"].partition("-")[0].replace("mariadb", "mysql") in marker.args


@pytest.fixture(scope="session")
def postgres_uri() -> Iterator[str]:
    """Yield a PostgreSQL server, once for all tests."""
    with databases.postgres_server() as uri:
        yield uri


@pytest.fixture(scope="session")
def mariadb_address() -> Iterator[dict[str, Any]]:
    """Yield a MariaDB server, once for all tests."""
    with databases.mariadb_server() as address:
        yield address


@pytest.fixture(scope="session")
def clickhouse() -> Iterator[Engine]:
    """Yield a ClickHouse, once for all tests."""
    with databases.clickhouse_server() as engine:
        yield engine


@pytest.fixture(scope="session")
def snowflake_account() -> Iterator[Callable[..., Any]]:
    """Yield a function that connects to a Snowflake emulated in this process."""
    with databases.snowflake_account() as connect:
        yield connect


@pytest.fixture(scope="session")
def bigquery() -> Iterator[Any]:
    """Yield an emulated BigQuery, once for all tests."""
    with databases.bigquery_server() as client:
        yield client


@pytest.fixture(scope="session")
def spark() -> Iterator[Any]:
    """Yield a server that understands Spark's SQL, once for all tests."""
    with databases.spark_server() as connection:
        yield connection


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    """Return an engine with its own schema and no tables."""
    return make_engine(request.param, request.getfixturevalue, tmp_path)


_THE_SAME = ("postgres-psycopg", "postgres-psycopg2", "redshift")
"""Other connections to the same server with the same transactions."""


@pytest.fixture(params=[name for name in ENGINES if name not in _THE_SAME])
def reached(request: pytest.FixtureRequest) -> str:
    """Return the name of an engine that several processes can connect to."""
    return str(request.param)


@pytest.fixture
def dialect(reached: str) -> str:
    """Return the name of the engine's SQL dialect."""
    return reached.partition("-")[0].replace("mariadb", "mysql")


@pytest.fixture
def elsewhere(reached: str, request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Engine]:
    """Return a function that makes the engine with an empty schema in another process."""
    return make_elsewhere(reached, request.getfixturevalue, tmp_path / "tables")


@pytest.fixture
def measured(reached: str, request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Engine]:
    """Return a function that makes another engine of the same kind."""
    return make_elsewhere(reached, request.getfixturevalue, tmp_path / "measured")


def make_elsewhere(name: str, fixture: Callable[[str], Any], folder: Path) -> Callable[[], Engine]:
    """Return a function that makes an engine in another process; embedded engines keep their tables in a file."""
    folder.mkdir()
    match name:
        case "clickhouse":
            return partial(databases.clickhouse_file, folder)
        case "snowflake":
            return partial(databases.snowflake_file, folder)
    engine = make_engine(name, fixture, folder)
    assert engine.again is not None
    return partial(databases.with_schema, engine.again, engine.schema)


@dataclass(frozen=True)
class ProxiedEngine:
    """An engine behind a proxy that can cut connections, and the same engine without the proxy."""

    name: str
    engine: Engine
    proxy: TcpProxy
    undisturbed: Engine


@pytest.fixture(params=_PROXIED)
def proxied(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ProxiedEngine]:
    """Yield an engine behind a proxy, with an empty schema."""
    name, fixture = request.param, request.getfixturevalue
    undisturbed = make_engine(name, fixture, tmp_path)
    assert undisturbed.again is not None
    with ExitStack() as stack:

        def through_proxy(server: Any, **options: Any) -> Any:
            nonlocal proxy
            proxy, address = stack.enter_context(tcp_proxy(server, **options))
            return address

        proxy: Any = None
        match name:
            case "postgres":
                folder = parse_qs(urlsplit(fixture("postgres_uri")).query)["host"][0]
                socket = ".s.PGSQL.5432"
                through_proxy(f"{folder}/{socket}", at=str(tmp_path / socket))
                over = databases.postgres_engine(fixture("postgres_uri").replace(folder, str(tmp_path)))
            case "mariadb":
                host, port = through_proxy(("127.0.0.1", fixture("mariadb_address")["port"]))
                over = databases.mariadb_engine({"user": "root", "host": host, "port": port})
            case "bigquery":
                _, port = through_proxy(("127.0.0.1", databases.port_of(fixture("bigquery"))))
                over = databases.bigquery_engine(str(undisturbed.schema), port)
            case _:
                spark = fixture("spark")
                _, port = through_proxy(("127.0.0.1", spark.port))
                over = databases.databricks_engine(str(undisturbed.schema), (port, spark.folder, spark.port))
        over.schema = undisturbed.schema
        yield ProxiedEngine(name, over, proxy, undisturbed)


def make_engine(name: str, fixture: Callable[[str], Any], folder: Path) -> Engine:
    """Return the engine of this name; servers start when they are first needed."""
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
