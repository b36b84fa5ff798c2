"""What stands in the database already, and how is what is missing made?"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence

from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.load.sql.context import LoadContext
from voiceos_provider.load.sql.plan import REJECTED
from voiceos_provider.transform import Column, Table

log = logging.getLogger(__name__)


def look(work: LoadContext) -> list[Table]:
    """Learn what stands there, and which tables do not.

    :raises VoiceOSValueError: if a table cannot take the rows; it says which column
    """
    for table in work.orders.tables:
        work.doing = f"look at the table {work.at(table)}"
        found = work.dialect.existing(work.session, work.orders.place, table)
        work.standing[table.name] = found or {}
        for column in table.columns:
            kind = (found or {}).get(column.name)
            if kind is not None and not work.dialect.fits(column, kind):
                raise VoiceOSValueError(
                    f"{work.at(table)} is of another shape: its column {column.name} is {kind}, where "
                    f"{work.dialect.type_of(column)} is needed. Name another table_prefix or schema, or change the "
                    "column."
                )
    new = [table for table in work.orders.tables if not work.standing[table.name]]
    if not work.orders.create:
        missing = [work.at(table) for table in new]
        missing += [f"the column {work.at(table)}.{column.name}" for table, column in _additions(work)]
        if missing:
            raise VoiceOSValueError(
                f"There is no {missing[0]}, and create_tables=False forbids to create it. "
                f"See what is needed: {_ddl_command(work)}"
            )
    return new


def _ddl_command(work: LoadContext) -> str:
    place = work.orders.place
    words = ["voiceos", "ddl", work.dialect.name]
    words += ["--schema", place.schema] if place.schema else []
    words += ["--table-prefix", place.prefix] if place.prefix else []
    words += ["--rejected"] if REJECTED in work.orders.tables else []
    return shlex.join(words)


def prepare(work: LoadContext) -> None:
    """Add columns, and what cannot be created within a transaction, in short transactions of their own."""
    orders, dialect, session = work.orders, work.dialect, work.session
    work.doing = f"look at the tables {orders.place}"
    if dialect.creates_in_transaction:
        dialect.begin(session, lock_timeout=orders.lock_timeout)
    new = look(work)
    if _additions(work) or (new and not dialect.creates_in_transaction):
        lock(work)
        new = look(work)
        if not dialect.creates_in_transaction:
            create(work, new)
            finish(work, new)
        for table, column in _additions(work):
            work.doing = f"add the column {table.name}.{column.name}"
            log.info("%s has no column %s; adding it.", work.at(table), column.name)
            for statement in dialect.add_column(orders.place, table, column):
                session.run(statement)
    work.doing = f"look at the tables {orders.place}"
    session.commit()
    dialect.unlock(session, orders.place)


def lock(work: LoadContext) -> None:
    """Wait until no other export writes here."""
    work.doing = "wait for other exports to the same tables"
    work.dialect.lock(work.session, work.orders.place, lock_timeout=work.orders.lock_timeout)


def create(work: LoadContext, tables: Sequence[Table]) -> None:
    """Make empty tables."""
    dialect, place = work.dialect, work.orders.place
    for table in tables:
        work.doing = f"create the table {work.at(table)}"
        keyed = work.orders.keyed(table) and not dialect.keys_late
        for statement in dialect.create(place, table, keyed=keyed):
            work.session.run(statement)
        work.standing[table.name] = dialect.existing(work.session, place, table) or {}


def finish(work: LoadContext, tables: Sequence[Table]) -> None:
    """Give new tables what is made best once they are full."""
    dialect, place = work.dialect, work.orders.place
    for table in tables:
        work.doing = f"index the table {work.at(table)}"
        keyed = work.orders.keyed(table)
        late = dialect.key(place, table) if keyed and dialect.keys_late else []
        for statement in (*late, *dialect.finish(place, table, keyed=keyed)):
            work.session.run(statement)


def _additions(work: LoadContext) -> list[tuple[Table, Column]]:
    return [
        (table, column)
        for table in work.orders.tables
        for column in table.columns
        if (standing := work.standing[table.name]) and column.name not in standing
    ]
