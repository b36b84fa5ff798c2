"""Addresses of databases and tables by the naming rules of OpenLineage, which Airflow's hooks and assets follow."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

FILES = ("sqlite", "duckdb")
"""Dialects whose databases are files."""

_PORTS = {"postgres": 5432, "redshift": 5439, "mysql": 3306, "clickhouse": 8123}
"""Default ports, which OpenLineage names contain."""


def table_uri(name: str, address: str, database: str, schema: str, table: str) -> str:
    """Return the address of a table."""
    if name in ("mysql", "clickhouse"):
        path = [schema or database or "default", table]
    elif name == "bigquery":
        project, _, dataset = schema.rpartition(".")
        path = [project or database or "default", dataset, table]
    elif name in FILES:
        path = [*([schema] if schema else []), table]
    elif name == "databricks":
        path = [database or "hive_metastore", schema or "default", table]
    else:
        path = [database or "default", schema or "public", table]
    if name == "snowflake":
        path = [part.upper() if re.fullmatch(r"[a-z_][a-z0-9_]*", part) else part for part in path]
    return "/".join([address, *(quote(part, safe="") for part in path)])


def address_of(name: str, kind: str, connection: Any) -> str:
    """Return scheme, host and port by the naming rules of OpenLineage, which the hooks of Airflow follow."""
    if name == "bigquery":
        return "bigquery:/"
    if name in FILES:
        return f"{name}://{path_of(connection)}".rstrip("/")
    host = (connection.host or "").removeprefix("https://").rstrip("/").lower()
    if host.startswith("/"):  # the socket of a server on this machine
        host = "localhost"
    if name == "snowflake":
        return f"snowflake://{_snowflake_account(connection)}"
    if name == "redshift":
        host = _redshift_cluster(host, connection.extra_dejson)
    port = None if name == "databricks" else connection.port or _PORTS.get(name)
    scheme = kind if name == "generic" else name
    return f"{scheme}://{host}{f':{port}' if port and host else ''}"


def _redshift_cluster(host: str, extras: Mapping[str, Any]) -> str:
    """Return cluster and region, such as `examplecluster.us-west-2`; the host if it is not one of Amazon's."""
    parts = host.split(".")
    if host.endswith(("amazonaws.com", "amazonaws.com.cn")) and len(parts) in (6, 7):
        return f"{extras.get('cluster-identifier') or parts[0]}.{parts[2]}"
    cluster = extras.get("cluster_identifier") or extras.get("cluster-identifier")
    return f"{cluster}.{extras['region']}" if cluster and extras.get("region") else host


def _snowflake_account(connection: Any) -> str:
    extras = connection.extra_dejson
    account = str(extras.get("account") or extras.get("extra__snowflake__account") or connection.host or "")
    if region := extras.get("region") or extras.get("extra__snowflake__region"):
        account = f"{account}.{region}"
    try:
        from airflow.providers.snowflake.utils.openlineage import fix_snowflake_sqlalchemy_uri
    except ImportError:
        return account.lower()
    return str(urlsplit(fix_snowflake_sqlalchemy_uri(f"snowflake://user@{account}/")).hostname)


def database_of(name: str, connection: Any, hook_params: Mapping[str, Any]) -> str:
    """Return the database of a connection, or its equivalent in the engine; empty if the connection names none."""
    extras = connection.extra_dejson
    if name == "bigquery":
        project = hook_params.get("project_id") or extras.get("project")
        return str(project or extras.get("extra__google_cloud_platform__project") or "")
    if name == "databricks":
        return str(hook_params.get("catalog") or extras.get("catalog") or "")
    if name == "snowflake":
        database = hook_params.get("database") or extras.get("database")
        return str(database or extras.get("extra__snowflake__database") or "")
    return str(hook_params.get("database") or connection.schema or "")


def default_schema_of(name: str, connection: Any, hook_params: Mapping[str, Any]) -> str:
    """Return the default schema of a connection; empty if the connection names none."""
    if name in ("snowflake", "databricks"):
        return str(hook_params.get("schema") or connection.schema or "")
    return ""


def path_of(connection: Any) -> str:
    """Return the path of a SQLite or DuckDB file."""
    # `sqlite:////folder/file` is parsed as a connection whose schema is the path.
    return str(connection.extra_dejson.get("database") or connection.host or connection.schema or "")
