"""Merge of staged rows into existing rows, with row versions and a check of the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from voiceos_provider.exceptions import VoiceOSDestinationError, VoiceOSExportError
from voiceos_provider.interval import isoformat
from voiceos_provider.load.plan import REJECTED
from voiceos_provider.load.receipt import LoadedTable
from voiceos_provider.load.sql.context import LoadContext
from voiceos_provider.load.sql.plan import OWNER, Merge
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
    dialect, plan = context.dialect, context.plan
    context.action = f"write to the table {dialect.target(table)}"
    merge = Merge(
        table=table,
        target=dialect.target(table),
        name=dialect.table_name(table),
        staging=dialect.staging_table(table),
        existing=context.existing[table.name],
        columns=context.rowsets[table.name].columns,
        # A conversation carries the row version for its child rows, if conversations are loaded.
        touch_unchanged=table in (CONVERSATIONS, REJECTED)
        or (table is not AGENT_CONFIGS and CONVERSATIONS not in plan.tables),
    )
    if not plan.keyed(table):
        return _append(context, merge)
    merge = replace(merge, stale=_stale(context, merge))
    key = f"t.{dialect.quote(table.key[0])}"
    staged, new, changed, same = dialect.numbers(
        "SELECT count(*), "
        f"sum(CASE WHEN {key} IS NULL THEN 1 ELSE 0 END), "
        f"sum(CASE WHEN {key} IS NULL THEN 0 WHEN {dialect.changed(merge)} THEN 1 ELSE 0 END), "
        f"sum(CASE WHEN {key} IS NULL THEN 0 WHEN {dialect.changed(merge)} THEN 0 "
        f"WHEN t.{dialect.quote('_exported_at')} = {context.row_version} THEN 1 ELSE 0 END) "
        f"FROM {merge.staging} s LEFT JOIN {merge.target} t ON {dialect.same_key(merge)}"
    )
    if staged != context.rowsets[table.name].rows - context.outdated[table.name]:
        raise VoiceOSExportError(
            f"Use another table_prefix: {merge.target} holds several rows with one {' and '.join(table.key)}, as "
            f"appending leaves them, and write_disposition {plan.disposition!r} needs unique keys."
        )
    stale_rows = f"SELECT count(*) FROM {merge.target} WHERE {merge.stale}"
    (stale,) = dialect.numbers(stale_rows) if merge.stale else (0,)
    updated = staged - new if merge.touch_unchanged else changed
    for statement in dialect.write(merge, new=new, updated=updated, stale=stale):
        dialect.change(statement)
    dialect.require(
        f"SELECT count(*) FROM {merge.staging} s JOIN {merge.target} t ON {dialect.same_key(merge)} "
        f"WHERE t.{dialect.quote('_exported_at')} = {context.row_version} "
        f"AND CASE WHEN {dialect.changed(merge)} THEN 0 ELSE 1 END = 1",
        staged if merge.touch_unchanged else new + changed + same,
        f"{merge.target} does not hold the rows that were written",
    )
    if stale:
        dialect.require(stale_rows, 0, f"{merge.target} holds rows that were deleted")
    return LoadedTable(
        inserted=new,
        updated=changed,
        unchanged=staged - new - changed,
        deleted=stale,
        outdated=context.outdated[table.name],
    )


def _stale(context: LoadContext, merge: Merge) -> str:
    """Return the condition for rows to delete: those of the exported conversations, and of a replaced interval."""
    dialect, plan = context.dialect, context.plan
    replaces = plan.disposition == "replace"
    if merge.table is REJECTED:
        return f"{context.in_interval(f'{merge.name}.')} AND {dialect.not_staged(merge)}"
    if merge.table is AGENT_CONFIGS or (merge.table is CONVERSATIONS and not replaces):
        return ""
    conditions: list[str] = []
    if merge.table is not CONVERSATIONS:
        value = dialect.staged_value(CONVERSATIONS.column("id"), merge.existing[OWNER])
        owners = f"SELECT {value} FROM {dialect.staging_table(CONVERSATIONS)} s"
        if replaces and CONVERSATIONS in plan.tables:
            owners += (
                f" UNION ALL SELECT o.{dialect.quote('id')} FROM {dialect.target(CONVERSATIONS)} o "
                f"WHERE {context.in_interval('o.')}"
            )
        conditions.append(f"{merge.name}.{dialect.quote(OWNER)} IN ({owners})")
    if replaces and (merge.table is CONVERSATIONS or CONVERSATIONS not in plan.tables):
        conditions.append(context.in_interval(f"{merge.name}."))
    return f"({' OR '.join(conditions)}) AND {dialect.not_staged(merge)}"


def _append(context: LoadContext, merge: Merge) -> LoadedTable:
    dialect, rows = context.dialect, context.rowsets[merge.table.name].rows
    ours = f"{dialect.quote('_exported_at')} = {context.row_version} AND {context.in_interval()}"
    count = f"SELECT count(*) FROM {merge.target} WHERE {ours}"
    (before,) = dialect.numbers(count)
    if before and before == rows:
        # An earlier attempt committed the rows, and lost its connection before it knew.
        return LoadedTable(inserted=rows)
    dialect.change(dialect.append(merge))
    dialect.require(count, before + rows, f"{merge.target} does not hold the rows that were written")
    return LoadedTable(inserted=rows)


def _drop_older(context: LoadContext, table: Table, versioned: Table) -> None:
    """Delete staged rows of a table for which the versioned table has newer rows."""
    dialect = context.dialect
    (key,) = table.key
    theirs = OWNER if OWNER in versioned.schema.names else key
    value = dialect.staged_value(table.column(key), context.existing[versioned.name].get(theirs, ""))
    newer = (
        f"t.{dialect.quote(theirs)} = {value} AND t.{dialect.quote('_exported_at')} > {context.row_version}"
    )
    staging, target = dialect.staging_table(table), dialect.target(versioned)
    (found,) = dialect.numbers(
        f"SELECT count(DISTINCT s.{dialect.quote(key)}) FROM {staging} s JOIN {target} t ON {newer}"
    )
    if found:
        dialect.run(dialect.delete_matching(staging, key, target, newer))
        context.outdated[table.name] += found


def _drop_orphans(context: LoadContext, table: Table) -> None:
    dialect, staging = context.dialect, context.dialect.staging_table(table)
    (before,) = dialect.numbers(f"SELECT count(*) FROM {staging}")
    dialect.run(dialect.delete_orphans(staging, OWNER, dialect.staging_table(CONVERSATIONS), "id"))
    (after,) = dialect.numbers(f"SELECT count(*) FROM {staging}")
    context.outdated[table.name] = before - after


def _require_newest(context: LoadContext, versioned: Sequence[Table]) -> None:
    """Require that no later export has read the interval: only the newest one knows which rows are gone.

    :raises VoiceOSDestinationError: if one has; a retry reads again, and is then the newest
    """
    newer = context.outdated[CONVERSATIONS.name]
    for table in versioned:
        (found,) = context.dialect.numbers(
            f"SELECT count(*) FROM {context.dialect.target(table)} WHERE {context.in_interval()} "
            f"AND {context.dialect.quote('_exported_at')} > {context.row_version}"
        )
        newer += found
    if newer:
        raise VoiceOSDestinationError(
            f"The tables {context.dialect.namespace} hold rows of {context.plan.interval} that a later export has "
            f"read. This one started at {isoformat(context.plan.exported_at)} and replaces nothing; a retry reads "
            "again."
        )
