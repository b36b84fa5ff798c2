"""Which staged rows are older than those that stand? They are taken out of the staging tables."""

from __future__ import annotations

from collections.abc import Sequence

from voiceos_provider.exceptions import VoiceOSDestinationError
from voiceos_provider.interval import isoformat
from voiceos_provider.load.sql.context import OWNER, LoadContext
from voiceos_provider.load.sql.plan import REJECTED
from voiceos_provider.transform import Table
from voiceos_provider.transform.schema import AGENT_CONFIGS, CONVERSATIONS


def resolve_versions(work: LoadContext) -> None:
    """Take out of the staging tables what the tables know better already.

    :raises VoiceOSDestinationError: if an interval is to be replaced of which a later export has read rows
    """
    orders = work.orders
    work.outdated = dict.fromkeys(work.rowsets, 0)
    if orders.disposition != "append":
        work.doing = "compare versions"
        loaded = [table for table in orders.tables if table not in (AGENT_CONFIGS, REJECTED)]
        guards = [CONVERSATIONS] if CONVERSATIONS in loaded else loaded
        for guard in guards:
            _take_out(work, CONVERSATIONS, guard)
        if orders.disposition == "replace":
            _require_newest(work, guards)
        if work.outdated[CONVERSATIONS.name]:
            for table in loaded:
                if table is not CONVERSATIONS:
                    _take_out_orphans(work, table)
    if AGENT_CONFIGS in orders.tables:
        _take_out(work, AGENT_CONFIGS, AGENT_CONFIGS)


def _take_out(work: LoadContext, table: Table, guard: Table) -> None:
    """Staged rows of a table of which the guard has newer ones."""
    (key,) = table.key
    (column,) = (column for column in table.columns if column.name == key)
    theirs = OWNER if OWNER in guard.schema.names else key
    read = work.dialect.read(column, work.standing[guard.name].get(theirs, ""))
    on = f"t.{work.quote(theirs)} = {read}"
    newer = f"t.{work.quote('_exported_at')} > {work.now}"
    stage, target = work.stage(table), work.at(guard)
    (found,) = work.session.numbers(
        f"SELECT count(DISTINCT s.{work.quote(key)}) FROM {stage} s JOIN {target} t ON {on} WHERE {newer}"
    )
    if found:
        work.session.run(work.dialect.take_out(stage, key, target, f"{on} AND {newer}"))
        work.outdated[table.name] += found


def _take_out_orphans(work: LoadContext, table: Table) -> None:
    stage, owners = work.stage(table), work.stage(CONVERSATIONS)
    (before,) = work.session.numbers(f"SELECT count(*) FROM {stage}")
    work.session.run(work.dialect.take_out_orphans(stage, OWNER, owners, "id"))
    (after,) = work.session.numbers(f"SELECT count(*) FROM {stage}")
    work.outdated[table.name] = before - after


def _require_newest(work: LoadContext, guards: Sequence[Table]) -> None:
    """Only the newest reading of an interval may replace it: it alone knows which rows are gone.

    :raises VoiceOSDestinationError: if a newer one stands; a retry reads again, and is then the newest
    """
    newer = work.outdated[CONVERSATIONS.name]
    for guard in guards:
        (found,) = work.session.numbers(
            f"SELECT count(*) FROM {work.at(guard)} "
            f"WHERE {work.within()} AND {work.quote('_exported_at')} > {work.now}"
        )
        newer += found
    if newer:
        raise VoiceOSDestinationError(
            f"The tables {work.orders.place} hold rows of {work.orders.interval} that a later export has read; this "
            f"one began at {isoformat(work.orders.exported_at)} and replaces nothing. A retry reads anew."
        )
