"""How do the tables get into a database?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Final

from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.load.sql.dialect import Dialect
from voiceos_provider.load.sql.namespace import Namespace
from voiceos_provider.load.sql.plan import REJECTED
from voiceos_provider.transform import TABLES, Table

DIALECTS: Final[Mapping[str, str]] = {
    "postgres": "dialects.postgres.Postgres",
    "redshift": "dialects.redshift.Redshift",
    "mysql": "dialects.mysql.MySQL",
    "duckdb": "dialects.duckdb.DuckDB",
    "sqlite": "dialects.sqlite.SQLite",
    "snowflake": "dialects.snowflake.Snowflake",
    "clickhouse": "dialects.clickhouse.ClickHouse",
    "bigquery": "dialects.bigquery.BigQuery",
    "databricks": "dialects.databricks.Databricks",
    "generic": "dialect.Dialect",
}
"""The engines that are known by name."""


def dialect_named(name: str, *, stamp: str = "0", placeholder: str = "?") -> Dialect:
    """The dialect of an engine.

    :raises VoiceOSValueError: if there is none of this name
    """
    if name not in DIALECTS:
        raise VoiceOSValueError(f"dialect {name!r} is not one of {', '.join(DIALECTS)}.")
    module, _, kind = DIALECTS[name].rpartition(".")
    dialect: Dialect = getattr(import_module(f"{__name__}.{module}"), kind)(
        stamp=stamp, placeholder=placeholder
    )
    return dialect


def ddl(
    dialect: str,
    *,
    schema: str | None = None,
    table_prefix: str = "",
    tables: Iterable[Table] = TABLES,
    rejected: bool = False,
) -> str:
    """The statements that create the tables, as an export would: for those who create tables themselves.

    :param dialect: one of `DIALECTS`
    :param schema: where the tables are to stand; None for the connection's own schema
    :param table_prefix: what their names begin with
    :param rejected: whether also the table that an export with `max_bad_records` needs
    :raises VoiceOSValueError: if there is no such dialect
    """
    spoken, place = dialect_named(dialect), Namespace(schema, table_prefix)
    statements = [
        statement
        for table in (*tables, *((REJECTED,) if rejected else ()))
        for statement in (*spoken.create(place, table), *spoken.finish(place, table))
    ]
    return "".join(f"{statement};\n" for statement in statements)


__all__ = ["DIALECTS", "ddl", "dialect_named"]
