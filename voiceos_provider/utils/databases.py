"""Which engine is behind an Airflow Connection, and how is it opened?"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from airflow.providers.common.compat.sdk import AirflowException, AirflowNotFoundException, BaseHook

from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.load.sql import DIALECTS
from voiceos_provider.load.sql.dialects.databricks import WithVolume
from voiceos_provider.utils.missing_connection import no_connection

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
"""Types of connection, and which dialect they speak; every other one that has a DB-API is `generic`."""

_LACKING = {
    "athena": "primary keys",
    "drill": "tables that are made empty",
    "druid": "tables that are made empty",
    "elasticsearch": "tables that are made empty",
    "exasol": "an information_schema",
    "hiveserver2": "primary keys in the standard's words",
    "impala": "an information_schema",
    "mssql": "CREATE TABLE IF NOT EXISTS",
    "oracle": "an information_schema",
    "pinot": "tables that are made empty",
    "presto": "primary keys",
    "teradata": "an information_schema",
    "trino": "primary keys",
    "vertica": "an information_schema",
}
"""Types of connection that have a DB-API, and what `generic` needs and their databases have not."""

_PACKAGES = {
    "postgres": "airflow-provider-voiceos[postgres]",
    "redshift": "airflow-provider-voiceos[redshift]",
    "mysql": "airflow-provider-voiceos[mysql]",
    "snowflake": "airflow-provider-voiceos[snowflake]",
    "clickhouse": "airflow-provider-voiceos[clickhouse]",
    "clickhousedb": "airflow-provider-voiceos[clickhouse]",
    "duckdb": "airflow-provider-voiceos[duckdb]",
    "gcpbigquery": "airflow-provider-voiceos[bigquery]",
    "google_cloud_platform": "airflow-provider-voiceos[bigquery]",
    "databricks": "airflow-provider-voiceos[databricks]",
}

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
"""Extras of a Postgres connection that are meant for Airflow; every other one is libpq's, such as `sslmode`."""


@dataclass(frozen=True, slots=True)
class Database:
    """An engine, not yet opened.

    :param dialect: one of `DIALECTS`
    :param connect: opens a connection, with the credentials of the moment
    :param placeholder: the driver's sign for a value
    :param address: where it is, without credentials
    :param database: the connection's database, where it names one
    """

    dialect: str
    connect: Callable[[], Any]
    placeholder: str
    address: str
    database: str

    def uri(self, schema: str | None, table: str) -> str:
        """What to call a table, in the form that Airflow's assets have for it."""
        if self.dialect == "mysql":
            path = [schema or self.database, table]
        elif self.dialect == "bigquery":
            project, _, dataset = str(schema).rpartition(".")
            path = [project or self.database or "default", dataset, table]
        elif self.dialect in ("sqlite", "duckdb"):
            path = [*([schema] if schema else []), table]
        else:
            path = [self.database or "default", schema or "public", table]
        return "/".join([self.address, *(quote(part, safe="") for part in path)])


def find_database(
    sql_conn_id: str, *, dialect: str | None = None, hook_params: Mapping[str, Any] | None = None
) -> Database:
    """The engine that the Connection leads to; nothing is opened yet.

    :param dialect: which language it speaks, if the type of the connection does not tell
    :param hook_params: further arguments of the connection's own hook
    :raises AirflowNotFoundException: if there is no such Connection
    :raises VoiceOSValueError: if no database can be behind it, or the package of its hook is missing
    """
    try:
        connection = BaseHook.get_connection(sql_conn_id)
    except AirflowNotFoundException as error:
        raise no_connection(sql_conn_id, parameter="sql_conn_id") from error
    kind = str(connection.conn_type)
    extras = connection.extra_dejson
    spoken = dialect or _spoken(kind, extras)
    if spoken not in DIALECTS:
        raise VoiceOSValueError(f"dialect {spoken!r} is not one of {', '.join(DIALECTS)}.")
    if spoken == "generic" and kind in _LACKING:
        raise VoiceOSValueError(
            f"Connection {sql_conn_id!r} leads to a database without {_LACKING[kind]} ({kind}), and no dialect is made "
            "for it. Write files with VoiceOSToObjectStorageOperator, and load them with an operator of that database."
        )
    opener = _Opener(sql_conn_id, kind, spoken, dict(hook_params or {}))
    host = connection.host or ""
    is_socket = host.startswith("/") and spoken not in ("sqlite", "duckdb")
    port = f":{connection.port}" if connection.port else ""
    return Database(
        dialect=spoken,
        connect=opener,
        placeholder=opener.placeholder(),
        # A path is that of a file, or of a server's socket on this machine.
        address="bigquery:/"
        if spoken == "bigquery"
        else _address(spoken, "localhost" if is_socket else host, port),
        database=_database(spoken, connection, hook_params or {}),
    )


def _spoken(kind: str, extras: Mapping[str, Any]) -> str:
    if kind == "postgres" and (extras.get("redshift") or extras.get("redshift-serverless")):
        return "redshift"
    if kind == "adbc":
        driver = str(extras.get("driver", ""))
        if "postgres" not in driver:
            raise VoiceOSValueError(
                f"ADBC connections are used with adbc_driver_postgresql, not with {driver!r}; use the connection type "
                "of the database itself."
            )
        return "postgres"
    return _ENGINES.get(kind, "generic")


def _address(spoken: str, host: str, port: str) -> str:
    return f"{spoken}://{host.removeprefix('https://')}{port}".rstrip("/")


def _database(spoken: str, connection: Any, hook_params: Mapping[str, Any]) -> str:
    extras = connection.extra_dejson
    if spoken == "bigquery":
        return str(hook_params.get("project_id") or extras.get("project") or "")
    if spoken == "databricks":
        return str(hook_params.get("catalog") or extras.get("catalog") or "")
    return str(hook_params.get("database") or connection.schema or "")


@dataclass(frozen=True, slots=True)
class _Opener:
    """Opens the connection anew at each call: a token that the hook fetched may have run out meanwhile."""

    conn_id: str
    kind: str
    spoken: str
    hook_params: dict[str, Any]

    def __call__(self) -> Any:
        connection = BaseHook.get_connection(self.conn_id)
        if self.kind in ("postgres", "redshift") and self.spoken == "postgres":
            conninfo = _conninfo(connection, self.hook_params)
            if conninfo is not None:
                try:
                    from adbc_driver_postgresql import dbapi
                except ImportError:
                    pass  # psycopg copies, too, if more slowly
                else:
                    return dbapi.connect(conninfo)
        hook = self._hook(connection)
        if hook is None:
            return _open_file(self.kind, connection)
        if self.spoken == "clickhouse":
            if not hasattr(hook, "get_client"):
                raise VoiceOSValueError(
                    f"Connection {self.conn_id!r}: the hook of {type(hook).__module__} speaks another protocol; "
                    f"pip install '{_PACKAGES['clickhouse']}'."
                )
            return hook.get_client()
        if self.spoken == "bigquery":
            return hook.get_client(
                project_id=self.hook_params.get("project_id") or hook.project_id, location=hook.location
            )
        if self.spoken == "databricks" and (volume := self._volume(connection)):
            return WithVolume(hook.get_conn(), volume)
        if not hasattr(hook, "get_conn"):
            raise self._no_database()
        return hook.get_conn()

    def placeholder(self) -> str:
        """The driver's sign for a value, as the hook has it.

        :raises VoiceOSValueError: if the hook is that of no database
        """
        if self.spoken in ("sqlite", "duckdb"):
            return "?"
        if self.spoken != "generic" and self.kind in _ENGINES:
            return "%s"
        hook = self._hook(BaseHook.get_connection(self.conn_id))
        if self.spoken == "generic" and not hasattr(hook, "placeholder"):
            raise self._no_database()
        return str(getattr(hook, "placeholder", "%s"))

    def _no_database(self) -> VoiceOSValueError:
        return VoiceOSValueError(f"Connection {self.conn_id!r} ({self.kind}) leads to no database.")

    def _volume(self, connection: Any) -> str | None:
        named = self.hook_params.get("volume") or connection.extra_dejson.get("volume")
        return str(named) if named else None

    def _hook(self, connection: Any) -> Any:
        params = dict(self.hook_params)
        try:
            if self.spoken == "bigquery":  # whose type of connection leads to other hooks, too
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
            if self.spoken == "mysql" and connection.extra_dejson.get("local_infile"):
                params.setdefault("local_infile", True)
            return connection.get_hook(hook_params=params)
        except (AirflowException, ImportError) as error:
            if self.kind in ("sqlite", "duckdb") and not self.hook_params:
                return None
            package = _PACKAGES.get(self.kind, "the Airflow provider of the database")
            raise VoiceOSValueError(
                f"Connection {self.conn_id!r} has the type {self.kind!r}, whose hook is not there "
                f"({type(error).__name__}); pip install '{package}'."
            ) from None


def _conninfo(connection: Any, hook_params: Mapping[str, Any]) -> str | None:
    """What libpq needs to know, extras such as `sslmode` included; None if only the hook can tell.

    SQLAlchemy's URL of the hook would lose the extras, and with them the encryption that they ask for.
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


def _open_file(kind: str, connection: Any) -> Any:
    """A file needs no hook, and so no package of its own."""
    path = connection.extra_dejson.get("database") or connection.host
    if not path:
        raise VoiceOSValueError(
            f"The {kind} connection {connection.conn_id!r} names no file; put its path in the host field."
        )
    if kind == "sqlite":
        return sqlite3.connect(path)
    try:
        import duckdb
    except ImportError:
        raise VoiceOSValueError(
            "DuckDB is not installed; pip install 'airflow-provider-voiceos[duckdb]'."
        ) from None
    return duckdb.connect(path)
