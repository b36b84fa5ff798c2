"""Tables in a database as the destination of an export. Nothing heavy is imported until a dialect is used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from voiceos_provider.exceptions import VoiceOSValueError

if TYPE_CHECKING:
    from voiceos_provider.load.sql.dialect import Dialect
    from voiceos_provider.transform import Table

DIALECTS: Final[Mapping[str, str]] = {
    "postgres": "Postgres",
    "redshift": "Redshift",
    "mysql": "MySQL",
    "duckdb": "DuckDB",
    "sqlite": "SQLite",
    "snowflake": "Snowflake",
    "clickhouse": "ClickHouse",
    "bigquery": "BigQuery",
    "databricks": "Databricks",
    "generic": "Generic",
}
"""The dialects by name, with their classes."""


def dialect_named(name: str, **options: Any) -> Dialect:
    """Return the dialect of this name.

    :param options: the parameters of `Dialect`
    :raises VoiceOSValueError: if there is none
    """
    if name not in DIALECTS:
        raise VoiceOSValueError(f"dialect {name!r} is not one of {', '.join(DIALECTS)}.")
    module = import_module(f"{__name__}.dialects.{name}")
    dialect: Dialect = getattr(module, DIALECTS[name])(**options)
    return dialect


def ddl(
    dialect: str,
    *,
    schema: str | None = None,
    table_prefix: str = "",
    tables: Iterable[Table] | None = None,
    rejected: bool = False,
) -> str:
    """Return the statements with which an export creates the tables, for users who create them themselves.

    :param dialect: one of `DIALECTS`
    :param schema: the schema of the tables; None for the connection's default
    :param table_prefix: the beginning of each table name
    :param tables: the tables to create; None for all
    :param rejected: also create the table that an export with `max_bad_records` needs
    :raises VoiceOSValueError: if there is no such dialect
    """
    from voiceos_provider.load.plan import REJECTED
    from voiceos_provider.load.sql.plan import Namespace
    from voiceos_provider.transform import TABLES

    engine = dialect_named(dialect, namespace=Namespace(schema, table_prefix))
    statements = [
        statement
        for table in (*(TABLES if tables is None else tables), *((REJECTED,) if rejected else ()))
        for statement in (*engine.create_table(table), *engine.finish_table(table))
    ]
    return "".join(f"{statement};\n" for statement in statements)


__all__ = ["DIALECTS", "ddl", "dialect_named"]
