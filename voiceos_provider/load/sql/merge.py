"""How is one table made to say what its staging table says, and how is it known that it does?"""

from __future__ import annotations

from voiceos_provider.exceptions import VoiceOSExportError
from voiceos_provider.load.receipt import LoadedTable
from voiceos_provider.load.sql.context import LoadContext
from voiceos_provider.load.sql.namespace import Merge
from voiceos_provider.transform import Table


def write(work: LoadContext, table: Table) -> LoadedTable:
    """Make a table say what was staged.

    :raises InterferenceError: if it does not afterwards
    :raises VoiceOSExportError: if nobody can say which of its rows is meant
    """
    dialect, session = work.dialect, work.session
    work.doing = f"write to the table {work.at(table)}"
    merge = work.merge(table)
    if not work.orders.keyed(table):
        return _append(work, merge)
    key = f"t.{work.quote(table.key[0])}"
    staged, new, changed, same = session.numbers(
        "SELECT count(*), "
        f"sum(CASE WHEN {key} IS NULL THEN 1 ELSE 0 END), "
        f"sum(CASE WHEN {key} IS NULL THEN 0 WHEN {dialect.changed(merge)} THEN 1 ELSE 0 END), "
        f"sum(CASE WHEN {key} IS NULL THEN 0 WHEN {dialect.changed(merge)} THEN 0 "
        f"WHEN t.{work.quote('_exported_at')} = {work.now} THEN 1 ELSE 0 END) "
        f"FROM {merge.stage} s LEFT JOIN {merge.target} t ON {dialect.same_row(merge)}"
    )
    expected = work.rowsets[table.name].rows - work.outdated[table.name]
    if staged != expected:
        raise VoiceOSExportError(
            f"{merge.target} holds several rows with one {' and '.join(table.key)}, as appending leaves them: "
            f"write_disposition {work.orders.disposition!r} cannot tell which is meant. Use another table_prefix."
        )
    gone = _count_gone(work, merge)
    old = staged - new if merge.advance else changed
    for statement in dialect.write(merge, new=new, old=old, gone=gone):
        session.change(statement)
    _verify(work, merge, staged if merge.advance else new + changed + same, gone)
    return LoadedTable(
        inserted=new,
        updated=changed,
        unchanged=staged - new - changed,
        deleted=gone,
        outdated=work.outdated[table.name],
    )


def _verify(work: LoadContext, merge: Merge, rows: int, gone: int) -> None:
    """What was staged must stand, and what is gone must not."""
    work.session.require(
        f"SELECT count(*) FROM {merge.stage} s JOIN {merge.target} t ON {work.dialect.same_row(merge)} "
        f"WHERE t.{work.quote('_exported_at')} = {work.now}",
        rows,
        f"{merge.target} does not hold the rows that were written",
    )
    if gone:
        work.session.require(_gone(merge), 0, f"{merge.target} holds rows that were deleted")


def _append(work: LoadContext, merge: Merge) -> LoadedTable:
    rows = work.rowsets[merge.table.name].rows
    ours = f"{work.quote('_exported_at')} = {work.now} AND {work.within()}"
    count = f"SELECT count(*) FROM {merge.target} WHERE {ours}"
    (before,) = work.session.numbers(count)
    if before and before == rows:
        # The answer to an earlier commit of ours was lost, and the rows were not.
        return LoadedTable(inserted=rows)
    work.session.change(work.dialect.insert(merge, new=False))
    work.session.require(count, before + rows, f"{merge.target} took other rows than it was given")
    return LoadedTable(inserted=rows)


def _count_gone(work: LoadContext, merge: Merge) -> int:
    if not merge.gone:
        return 0
    (found,) = work.session.numbers(_gone(merge))
    return found


def _gone(merge: Merge) -> str:
    return f"SELECT count(*) FROM {merge.target} WHERE {merge.gone}"
