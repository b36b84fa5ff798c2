"""Schema synchronisation: existing tables are inspected, missing tables and columns created."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence

from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.load.plan import REJECTED
from voiceos_provider.load.sql.context import LoadContext
from voiceos_provider.transform import Column, Table

log = logging.getLogger(__name__)


def inspect_tables(context: LoadContext) -> list[Table]:
    """Read the existing columns; return the tables that are missing.

    :raises VoiceOSValueError: if a table cannot take the rows; the message names the column
    """
    dialect, plan = context.dialect, context.plan
    for table in plan.tables:
        context.action = f"inspect the table {dialect.target(table)}"
        found = dialect.existing_columns(table) or {}
        context.existing[table.name] = found
        for column in table.columns:
            kind = found.get(column.name)
            if kind is not None and not dialect.accepts(column, kind):
                raise VoiceOSValueError(
                    f"Change the column {column.name} of {dialect.target(table)}, or choose another table_prefix or "
                    f"schema: the column is {kind}, and {dialect.type_of(column)} is needed."
                )
    missing = [table for table in plan.tables if not context.existing[table.name]]
    if not plan.create:
        names = [f"table {dialect.target(table)}" for table in missing]
        names += [
            f"column {dialect.target(table)}.{column.name}" for table, column in _missing_columns(context)
        ]
        if names:
            raise VoiceOSValueError(
                f"The {names[0]} is missing, and create_tables=False forbids to create it. "
                f"The statements that create it: {_ddl_command(context)}"
            )
    return missing


def _ddl_command(context: LoadContext) -> str:
    namespace = context.dialect.namespace
    words = ["voiceos", "ddl", context.dialect.capabilities.name]
    words += ["--schema", namespace.schema] if namespace.schema else []
    words += ["--table-prefix", namespace.prefix] if namespace.prefix else []
    words += ["--rejected"] if REJECTED in context.plan.tables else []
    return shlex.join(words)


def prepare(context: LoadContext) -> None:
    """Add missing columns in a short transaction; also missing tables, if DDL is not transactional."""
    dialect = context.dialect
    transactional = dialect.capabilities.transactional_ddl
    context.action = f"inspect the tables {dialect.namespace}"
    if transactional:
        dialect.begin()
    missing = inspect_tables(context)
    if _missing_columns(context) or (missing and not transactional):
        lock(context)
        missing = inspect_tables(context)
        if not transactional:
            create_tables(context, missing)
            finish_tables(context, missing)
        for table, column in _missing_columns(context):
            context.action = f"add the column {table.name}.{column.name}"
            log.info("Adding the missing column %s to %s.", column.name, dialect.target(table))
            for statement in dialect.add_column(table, column):
                dialect.run(statement)
    context.action = f"inspect the tables {dialect.namespace}"
    dialect.commit()
    dialect.unlock()


def lock(context: LoadContext) -> None:
    """Wait until no other load writes to the namespace."""
    context.action = "wait for other loads into the same tables"
    context.dialect.lock()


def create_tables(context: LoadContext, tables: Sequence[Table]) -> None:
    """Create empty tables."""
    dialect = context.dialect
    for table in tables:
        context.action = f"create the table {dialect.target(table)}"
        keyed = context.plan.keyed(table) and not dialect.capabilities.late_keys
        for statement in dialect.create_table(table, keyed=keyed):
            dialect.run(statement)
        context.existing[table.name] = dialect.existing_columns(table) or {}


def finish_tables(context: LoadContext, tables: Sequence[Table]) -> None:
    """Add keys, indexes and comments to new tables, which is fastest after the rows."""
    dialect = context.dialect
    for table in tables:
        context.action = f"index the table {dialect.target(table)}"
        keyed = context.plan.keyed(table)
        if keyed and dialect.capabilities.late_keys:
            dialect.run(f"ALTER TABLE {dialect.target(table)} ADD {dialect.primary_key(table)}")
        for statement in dialect.finish_table(table, keyed=keyed):
            dialect.run(statement)


def _missing_columns(context: LoadContext) -> list[tuple[Table, Column]]:
    return [
        (table, column)
        for table in context.plan.tables
        for column in table.columns
        if (existing := context.existing[table.name]) and column.name not in existing
    ]
