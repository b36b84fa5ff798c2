"""Merge of staged rows into existing rows, with row versions and a check of the result."""

from __future__ import annotations

from collections.abc import Sequence

from voiceos_provider.exceptions import VoiceOSDestinationError, VoiceOSExportError
from voiceos_provider.interval import isoformat
from voiceos_provider.load.receipt import LoadedTable
from voiceos_provider.load.sql.context import LoadContext
from voiceos_provider.load.sql.plan import OWNER, REJECTED, Merge
from voiceos_provider.transform import Table
from voiceos_provider.transform.schema import AGENT_CONFIGS, CONVERSATIONS


def drop_outdated(context: LoadContext) -> None:
    """Delete staged rows for which the tables hold a newer row version.

    :raises VoiceOSDestinationError: if a later export has read rows of an interval that is to be replaced
    """
    plan = context.plan
    context.outdated = dict.fromkeys(context.rowsets, 0)
    if plan.disposition != "append":
        context.action = "compare row versions"
        loaded = [table for table in plan.tables if table not in (AGENT_CONFIGS, REJECTED)]
        versioned = [CONVERSATIONS] if CONVERSATIONS in loaded else loaded
        for table in versioned:
            _drop_older(context, CONVERSATIONS, table)
        if plan.disposition == "replace":
            _require_newest(context, versioned)
        if context.outdated[CONVERSATIONS.name]:
            for table in loaded:
                if table is not CONVERSATIONS:
                    _drop_orphans(context, table)
    if AGENT_CONFIGS in plan.tables:
        _drop_older(context, AGENT_CONFIGS, AGENT_CONFIGS)


def merge_table(context: LoadContext, table: Table) -> LoadedTable:
    """Merge the staged rows of a table.

    :raises InterferenceError: if the table does not hold them afterwards
    :raises VoiceOSExportError: if several existing rows have one key
    """
    dialect, session = context.dialect, context.session
    context.action = f"write to the table {context.table(table)}"
    merge = context.merge(table)
    if not context.plan.keyed(table):
        return _append(context, merge)
    key = f"t.{context.quote(table.key[0])}"
    staged, new, changed, same = session.numbers(
        "SELECT count(*), "
        f"sum(CASE WHEN {key} IS NULL THEN 1 ELSE 0 END), "
        f"sum(CASE WHEN {key} IS NULL THEN 0 WHEN {dialect.changed(merge)} THEN 1 ELSE 0 END), "
        f"sum(CASE WHEN {key} IS NULL THEN 0 WHEN {dialect.changed(merge)} THEN 0 "
        f"WHEN t.{context.quote('_exported_at')} = {context.row_version} THEN 1 ELSE 0 END) "
        f"FROM {merge.staging} s LEFT JOIN {merge.target} t ON {dialect.same_key(merge)}"
    )
    if staged != context.rowsets[table.name].rows - context.outdated[table.name]:
        raise VoiceOSExportError(
            f"Use another table_prefix: {merge.target} holds several rows with one {' and '.join(table.key)}, as "
            f"appending leaves them, and write_disposition {context.plan.disposition!r} needs unique keys."
        )
    stale = _count_stale(context, merge)
    updated = staged - new if merge.touch_unchanged else changed
    for statement in dialect.write(merge, new=new, updated=updated, stale=stale):
        session.change(statement)
    _verify(context, merge, staged if merge.touch_unchanged else new + changed + same, stale)
    return LoadedTable(
        inserted=new,
        updated=changed,
        unchanged=staged - new - changed,
        deleted=stale,
        outdated=context.outdated[table.name],
    )


def _verify(context: LoadContext, merge: Merge, rows: int, stale: int) -> None:
    """Require that the staged rows exist with the staged values, and that stale rows do not."""
    dialect = context.dialect
    context.session.require(
        f"SELECT count(*) FROM {merge.staging} s JOIN {merge.target} t ON {dialect.same_key(merge)} "
        f"WHERE t.{context.quote('_exported_at')} = {context.row_version} "
        f"AND CASE WHEN {dialect.changed(merge)} THEN 0 ELSE 1 END = 1",
        rows,
        f"{merge.target} does not hold the rows that were written",
    )
    if stale:
        context.session.require(_stale_rows(merge), 0, f"{merge.target} holds rows that were deleted")


def _append(context: LoadContext, merge: Merge) -> LoadedTable:
    rows = context.rowsets[merge.table.name].rows
    ours = f"{context.quote('_exported_at')} = {context.row_version} AND {context.in_interval()}"
    count = f"SELECT count(*) FROM {merge.target} WHERE {ours}"
    (before,) = context.session.numbers(count)
    if before and before == rows:
        # An earlier attempt committed the rows, and lost its connection before it knew.
        return LoadedTable(inserted=rows)
    context.session.change(context.dialect.insert(merge, new=False))
    context.session.require(count, before + rows, f"{merge.target} does not hold the rows that were written")
    return LoadedTable(inserted=rows)


def _count_stale(context: LoadContext, merge: Merge) -> int:
    if not merge.stale:
        return 0
    (found,) = context.session.numbers(_stale_rows(merge))
    return found


def _stale_rows(merge: Merge) -> str:
    return f"SELECT count(*) FROM {merge.target} WHERE {merge.stale}"


def _drop_older(context: LoadContext, table: Table, versioned: Table) -> None:
    """Delete staged rows of a table for which the versioned table has newer rows."""
    (key,) = table.key
    (column,) = (column for column in table.columns if column.name == key)
    theirs = OWNER if OWNER in versioned.schema.names else key
    value = context.dialect.staged_value(column, context.existing[versioned.name].get(theirs, ""))
    same = context.dialect.equal(f"t.{context.quote(theirs)}", value, column)
    newer = f"t.{context.quote('_exported_at')} > {context.row_version}"
    staging, target = context.staging_table(table), context.table(versioned)
    (found,) = context.session.numbers(
        f"SELECT count(DISTINCT s.{context.quote(key)}) FROM {staging} s JOIN {target} t ON {same} WHERE {newer}"
    )
    if found:
        context.session.run(context.dialect.delete_matching(staging, key, target, f"{same} AND {newer}"))
        context.outdated[table.name] += found


def _drop_orphans(context: LoadContext, table: Table) -> None:
    staging, owners = context.staging_table(table), context.staging_table(CONVERSATIONS)
    (before,) = context.session.numbers(f"SELECT count(*) FROM {staging}")
    context.session.run(context.dialect.delete_orphans(staging, OWNER, owners, "id"))
    (after,) = context.session.numbers(f"SELECT count(*) FROM {staging}")
    context.outdated[table.name] = before - after


def _require_newest(context: LoadContext, versioned: Sequence[Table]) -> None:
    """Require that no later export has read the interval: only the newest one knows which rows are gone.

    :raises VoiceOSDestinationError: if one has; a retry reads again, and is then the newest
    """
    newer = context.outdated[CONVERSATIONS.name]
    for table in versioned:
        (found,) = context.session.numbers(
            f"SELECT count(*) FROM {context.table(table)} WHERE {context.in_interval()} "
            f"AND {context.quote('_exported_at')} > {context.row_version}"
        )
        newer += found
    if newer:
        raise VoiceOSDestinationError(
            f"The tables {context.plan.namespace} hold rows of {context.plan.interval} that a later export has read. "
            f"This one started at {isoformat(context.plan.exported_at)} and replaces nothing; a retry reads again."
        )
