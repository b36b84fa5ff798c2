"""Databases behind Airflow Connections: dialect, address, and how to open them."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from airflow.providers.common.compat.sdk import AirflowException, BaseHook

from voiceos_provider.exceptions import VoiceOSExportError, VoiceOSValueError
from voiceos_provider.load.sql import DIALECTS
from voiceos_provider.load.sql.dialects.databricks import WithVolume
from voiceos_provider.utils.database_names import (
    FILES,
    address_of,
    database_of,
    default_schema_of,
    path_of,
    table_uri,
)
from voiceos_provider.utils.errors import get_connection

if TYPE_CHECKING:
    from voiceos_provider.load.sql.destination import SqlDestination

_ENGINES = {
    "postgres": "postgres",
    "redshift": "redshift",
    "mysql": "mysql",
    "sqlite": "sqlite",
    "duckdb": "duckdb",
    "snowflake": "snowflake",
    "clickhouse": "clickhouse",
    "clickhousedb": "clickhouse",
    "gcpbigquery": "bigquery",
    "google_cloud_platform": "bigquery",
    "databricks": "databricks",
}
"""Dialects of connection types; every other type with a DB-API is `generic`."""

_UNTYPED = ("generic", "None", "")
"""Connection types that do not determine a database."""

_LACKING = {
    "an information_schema": ("exasol", "impala", "oracle", "teradata", "vertica"),
    "CREATE TABLE IF NOT EXISTS": ("mssql",),
    "CREATE TABLE without rows": ("drill", "druid", "elasticsearch", "pinot"),
    "primary keys": ("athena", "presto", "trino"),
    "the standard syntax for primary keys": ("hiveserver2",),
}
"""Features that `generic` needs, and connection types with a DB-API whose databases lack them."""

_NOT_LIBPQ = frozenset(
    {
        "iam",
        "redshift",
        "redshift-serverless",
        "cursor",
        "cluster-identifier",
        "workgroup-name",
        "aws_conn_id",
        "azure_conn_id",
        "azure_oauth_scope",
        "sqlalchemy_scheme",
        "sqlalchemy_query",
    }
)
"""Extras of a Postgres connection that Airflow uses; all others are libpq's, such as `sslmode`."""


_READ_ONLY = {
    "mode": {"ro", "memory"},
    "immutable": {"1", "true"},
    "access_mode": {"read_only"},
    "read_only": {"1", "true"},
}
"""Extras and values with which a file of a database cannot be written, or does not exist."""


@dataclass(frozen=True, slots=True)
class Database:
    """A database, not yet opened.

    :param dialect: one of `DIALECTS`
    :param connect: opens a connection, with current credentials
    :param placeholder: the driver's placeholder for a value; None if the dialect knows it
    :param address: scheme, host and port without credentials, as OpenLineage names them
    :param database: the database of the connection, if it names one
    :param schema: the default schema of the connection, if it names one
    :param file: path of the file of SQLite or DuckDB
    """

    dialect: str
    connect: Callable[[], Any]
    placeholder: str | None
    address: str
    database: str
    schema: str = ""
    file: str = ""

    def uri(self, schema: str | None, table: str) -> str:
        """Return the address of a table, as Airflow's assets and OpenLineage have it."""
        return table_uri(self.dialect, self.address, self.database, schema or self.schema, table)


def find_database(
    sql_conn_id: str, *, dialect: str | None = None, hook_params: Mapping[str, Any] | None = None
) -> Database:
    """Return the database of a Connection, without opening it.

    :param dialect: the SQL dialect, if the type of the connection does not determine it
    :param hook_params: further arguments of the connection's hook
    :raises AirflowNotFoundException: if there is no such Connection
    :raises VoiceOSValueError: if the Connection cannot be used, or the package of its hook is missing
    """
    connection = get_connection(sql_conn_id, parameter="sql_conn_id")
    kind = str(connection.conn_type)
    extras = connection.extra_dejson
    name = dialect or _dialect_of(kind, extras)
    if name not in DIALECTS:
        raise VoiceOSValueError(f"dialect {name!r} is not one of {', '.join(DIALECTS)}.")
    if kind in _UNTYPED:
        if name not in (*FILES, "postgres"):
            raise VoiceOSValueError(
                f"Set the type of the connection {sql_conn_id!r}, for example postgres: it is {kind!r}. Airflow stores "
                "that if the provider of the database is not installed when the connection is added. "
                "For SQLite, DuckDB and PostgreSQL, the dialect parameter can name the database, too."
            )
        kind = name
    for lacking, kinds in _LACKING.items() if name == "generic" else ():
        if kind in kinds:
            raise VoiceOSValueError(
                f"Use VoiceOSToObjectStorageOperator, and load its files with an operator of {kind}: there is no "
                f"dialect for it, and it lacks {lacking}. (Connection {sql_conn_id!r}.)"
            )
    file = database_file(sql_conn_id, kind, connection) if name in FILES else ""
    opener = _Opener(sql_conn_id, kind, name, dict(hook_params or {}))
    return Database(
        dialect=name,
        connect=opener,
        placeholder=opener.placeholder(),
        address=address_of(name, kind, connection),
        database=database_of(name, connection, hook_params or {}),
        schema=default_schema_of(name, connection, hook_params or {}),
        file=file,
    )


def _dialect_of(kind: str, extras: Mapping[str, Any]) -> str:
    if kind == "postgres" and (extras.get("redshift") or extras.get("redshift-serverless")):
        return "redshift"
    if kind == "adbc":
        driver = str(extras.get("driver", ""))
        if "postgres" not in driver:
            raise VoiceOSValueError(
                f"Use the connection type of the database: ADBC connections work with adbc_driver_postgresql, not "
                f"with {driver!r}."
            )
        return "postgres"
    return _ENGINES.get(kind, "generic")


def database_file(conn_id: str, kind: str, connection: Any) -> str:
    """Return the path of a SQLite or DuckDB file.

    :raises VoiceOSValueError: if rows would be lost: there is no path, it is relative, in memory, or read-only
    """
    path = path_of(connection)
    if not path:
        raise VoiceOSValueError(
            f"Put the path of the file into the Host field of the {kind} connection {conn_id!r}."
        )
    extras = {name: str(value).lower() for name, value in connection.extra_dejson.items()}
    if ":memory:" in path or extras.get("mode") == "memory":
        raise VoiceOSValueError(
            f"Put the path of a file into the Host field of the {kind} connection {conn_id!r}: a database in memory "
            "is gone when the task ends."
        )
    if read_only := [name for name, values in _READ_ONLY.items() if extras.get(name) in values]:
        raise VoiceOSValueError(
            f"Remove {read_only[0]} from the Extra field of the {kind} connection {conn_id!r}: an export writes, and "
            "it makes the database read-only."
        )
    if not os.path.isabs(path) and not (kind == "duckdb" and path.startswith(("md:", "motherduck:"))):
        raise VoiceOSValueError(
            f"Put an absolute path into the Host field of the {kind} connection {conn_id!r}: {path!r} is a file in the "
            f"working directory of a worker. In a URI: {kind}:////folder/file."
        )
    return path


@dataclass(frozen=True, slots=True)
class _Opener:
    """Opens a new connection at each call, because a token that the hook fetched may have expired."""

    conn_id: str
    kind: str
    dialect: str
    hook_params: dict[str, Any]

    def __call__(self) -> Any:
        connection = BaseHook.get_connection(self.conn_id)
        if self.kind in ("postgres", "redshift") and self.dialect == "postgres":
            conninfo = _conninfo(connection, self.hook_params)
            if conninfo is not None:
                try:
                    from adbc_driver_postgresql import dbapi
                except ImportError:
                    pass  # psycopg copies, too, if more slowly
                else:
                    return dbapi.connect(conninfo)
        path = database_file(self.conn_id, self.kind, connection) if self.dialect in FILES else ""
        hook = self._hook(connection)
        if hook is None:
            return _open_file(path, self.dialect, connection)
        if self.dialect == "clickhouse":
            if not hasattr(hook, "get_client"):
                raise VoiceOSValueError(
                    f"pip install '{_package('clickhouse')}': the hook of connection {self.conn_id!r}, from "
                    f"{type(hook).__module__}, uses another protocol."
                )
            return hook.get_client()
        if self.dialect == "bigquery":
            return hook.get_client(
                project_id=self.hook_params.get("project_id") or hook.project_id, location=hook.location
            )
        if self.dialect == "databricks" and (volume := self._volume(connection)):
            return WithVolume(hook.get_conn(), volume)
        if not hasattr(hook, "get_conn"):
            raise self._no_database()
        return hook.get_conn()

    def placeholder(self) -> str | None:
        """Return the driver's placeholder for a value, as the hook has it; None if it is that of the dialect.

        :raises VoiceOSValueError: if the dialect is `generic`, and the hook is not that of a database
        """
        if self.dialect != "generic" and self.kind in (*_ENGINES, "adbc"):
            return None
        placeholder = getattr(self._hook(BaseHook.get_connection(self.conn_id)), "placeholder", None)
        if placeholder is None and self.dialect == "generic":
            raise self._no_database()
        return placeholder

    def _no_database(self) -> VoiceOSValueError:
        return VoiceOSValueError(
            f"Connection {self.conn_id!r} ({self.kind}) is not a connection of a database."
        )

    def _volume(self, connection: Any) -> str | None:
        named = self.hook_params.get("volume") or connection.extra_dejson.get("volume")
        return str(named) if named else None

    def _hook(self, connection: Any) -> Any:
        params = dict(self.hook_params)
        try:
            if self.dialect == "bigquery":  # whose type of connection is that of other hooks, too
                from airflow.providers.google.cloud.hooks.bigquery import BigQueryHook

                params.pop("project_id", None)
                params.setdefault("use_legacy_sql", False)
                return BigQueryHook(gcp_conn_id=self.conn_id, **params)
            if self.kind == "databricks":
                from airflow.providers.databricks.hooks.databricks_sql import DatabricksSqlHook

                params.pop("volume", None)
                if self._volume(connection):
                    params["staging_allowed_local_path"] = tempfile.gettempdir()
                return DatabricksSqlHook(databricks_conn_id=self.conn_id, **params)
            if self.dialect == "mysql" and connection.extra_dejson.get("local_infile"):
                params.setdefault("local_infile", True)
            return connection.get_hook(hook_params=params)
        # AttributeError: for a type without a hook class, Airflow looks up the name of none.
        except (AirflowException, ImportError, AttributeError) as error:
            if self.dialect in FILES and not self.hook_params:
                return None
            package = _package(_ENGINES.get(self.kind, "generic"))
            raise VoiceOSValueError(
                f"pip install '{package}': connection {self.conn_id!r} has the type {self.kind!r}, whose hook is not "
                f"installed ({type(error).__name__})."
            ) from None


def _package(dialect: str) -> str:
    if dialect in ("generic", "sqlite"):
        return "the Airflow provider of the database"
    return f"airflow-provider-voiceos[{dialect}]"


def _conninfo(connection: Any, hook_params: Mapping[str, Any]) -> str | None:
    """Return a libpq conninfo with extras such as `sslmode`; None if only the hook can connect.

    The SQLAlchemy URL of the hook lacks the extras, and with them required encryption.
    """
    extras = connection.extra_dejson
    if extras.get("iam") or extras.get("azure_conn_id") or set(hook_params) - {"database", "options"}:
        return None
    fields = {
        "host": connection.host,
        "port": connection.port,
        "user": connection.login,
        "password": connection.password,
        "dbname": hook_params.get("database") or connection.schema,
        "options": hook_params.get("options"),
        **{name: value for name, value in extras.items() if name not in _NOT_LIBPQ},
    }
    return " ".join(f"{name}={_quoted(value)}" for name, value in fields.items() if value not in (None, ""))


def _quoted(value: Any) -> str:
    text = str(int(value) if isinstance(value, bool) else value)
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _open_file(path: str, dialect: str, connection: Any) -> Any:
    """Open a file without a hook, as Airflow's hooks do, so that their packages are not needed."""
    if dialect == "sqlite":
        parameters = {name: value for name, value in connection.extra_dejson.items() if name != "database"}
        query = f"?{urlencode(parameters)}" if parameters else ""
        return sqlite3.connect(f"file:{quote(path)}{query}", uri=True)
    try:
        import duckdb
    except ImportError:
        raise VoiceOSValueError(
            "pip install 'airflow-provider-voiceos[duckdb]': DuckDB is not installed."
        ) from None
    return duckdb.connect(path)


def open_tables(
    sql_conn_id: str,
    *,
    schema: str | None = None,
    table_prefix: str = "",
    dialect: str | None = None,
    hook_params: Mapping[str, Any] | None = None,
    first_table: str = "conversations",
    lock_timeout: float = 300,
    create_tables: bool = False,
    **options: Any,
) -> SqlDestination:
    """Return the tables of an export.

    :param first_table: the table that is in the address of the destination
    :param create_tables: create missing tables, and the file of a database that is one
    :param options: see `SqlDestination`
    :raises VoiceOSExportError: if the file of the database does not exist, and is not to be created
    """
    from voiceos_provider.load.sql import dialect_named
    from voiceos_provider.load.sql.destination import SqlDestination
    from voiceos_provider.load.sql.dialect import STAMP
    from voiceos_provider.load.sql.plan import Namespace

    database = find_database(sql_conn_id, dialect=dialect, hook_params=hook_params)
    if not create_tables and os.path.isabs(database.file) and not os.path.exists(database.file):
        raise VoiceOSExportError(
            f"The file {database.file} does not exist. Check the Host field of the connection {sql_conn_id!r}."
        )
    return SqlDestination(
        database.connect,
        dialect_named(
            database.dialect,
            namespace=Namespace(schema, table_prefix),
            stamp=f"{datetime.now(UTC):{STAMP}}",
            placeholder=database.placeholder,
            lock_timeout=lock_timeout,
        ),
        uri=database.uri(schema, table_prefix + first_table),
        create_tables=create_tables,
        **options,
    )
