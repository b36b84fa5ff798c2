"""What an export guarantees for tables of a lake, in every format and on every store."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.support.conversations import conversation
from tests.support.databases import plain
from tests.support.exporting import DAY, NOW, emulate, export_pages, page, read_pages
from tests.support.lakes import LakeUnderTest, interrupted
from voiceos_provider.client.pages import RawPage
from voiceos_provider.exceptions import VoiceOSDestinationError, VoiceOSError, VoiceOSExportError
from voiceos_provider.interval import Interval
from voiceos_provider.load.memory import MemoryDestination
from voiceos_provider.load.pending import PendingConversations
from voiceos_provider.load.receipt import ExportReceipt, LoadedTable
from voiceos_provider.pipeline.late_arrivals import LateArrivals
from voiceos_provider.transform import TABLES, Table
from voiceos_provider.transform.schema import (
    AGENT_CONFIGS,
    CONVERSATION_COSTS,
    CONVERSATION_MESSAGES,
    CONVERSATIONS,
)

LATER = NOW + timedelta(hours=1)
LATEST = LATER + timedelta(hours=1)
NEXT_DAY = Interval(DAY.end, DAY.end + timedelta(days=1))
HOUR = Interval(DAY.start + timedelta(hours=10), DAY.start + timedelta(hours=11))


def load(
    lake: LakeUnderTest,
    pages: Iterable[RawPage],
    *,
    at: datetime = NOW,
    interval: Interval = DAY,
    tables: tuple[Table, ...] = TABLES,
    **options: Any,
) -> ExportReceipt:
    """Export as the operator does."""
    exporting = {name: options.pop(name) for name in ("max_bad_records", "workdir") if name in options}
    target = lake.destination(**options)
    return export_pages(pages, interval=interval, exported_at=at, target=target, tables=tables, **exporting)


def expected(pages: Iterable[RawPage], table: Table, *, at: datetime = NOW) -> list[dict[str, Any]]:
    """Return the rows that an export of these pages makes of a table, held in memory."""
    memory = MemoryDestination()
    export_pages(pages, exported_at=at, target=memory, tables=[table])
    assert memory.table is not None
    rows = [{c.name: plain(c, row[c.name]) for c in table.columns} for row in memory.table.to_pylist()]
    return sorted(rows, key=lambda row: [row[name] for name in table.key])


def ids(lake: LakeUnderTest) -> list[str]:
    """Return the ids in the table of conversations, repeated ones as often as they occur."""
    return [row["id"] for row in lake.read(CONVERSATIONS)]


def messages(lake: LakeUnderTest) -> list[tuple[str, int, str]]:
    """Return the messages in the order of their conversations."""
    rows = lake.read(CONVERSATION_MESSAGES)
    return [(row["conversation_id"], row["ordinal"], row["content"]) for row in rows]


def everything(lake: LakeUnderTest) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of all tables."""
    return {table.name: lake.read(table) for table in TABLES}


def commits(lake: LakeUnderTest) -> dict[str, int]:
    """Return the number of commits of each table."""
    return {table.name: len(lake.commits(table)) for table in TABLES}


def test_first_load_writes_every_value_of_every_table(lake: LakeUnderTest) -> None:
    """Each independent reader sees the same exact values, written in one commit per table."""
    emulator = emulate(300)
    receipt = load(lake, read_pages(emulator))
    for table in TABLES:
        rows = expected(read_pages(emulator), table)
        for reader in lake.libraries:
            assert lake.read(table, reader=reader) == rows, reader
        assert receipt.tables[table.name] == LoadedTable(inserted=len(rows))
        assert len(lake.commits(table)) == 1
    assert len(lake.libraries) >= 2
    assert receipt.exported == lake.count(CONVERSATIONS) > 50


@pytest.mark.parametrize("disposition", ["merge", "replace"])
def test_second_load_of_the_same_writes_nothing(lake: LakeUnderTest, disposition: str) -> None:
    """No row and no commit, although the export is a later one."""
    emulator = emulate(120)
    first = load(lake, read_pages(emulator), disposition=disposition)
    before, committed = everything(lake), commits(lake)
    again = load(lake, read_pages(emulator), at=LATER, disposition=disposition)
    assert everything(lake) == before
    assert commits(lake) == committed
    unchanged = {name: LoadedTable(unchanged=loaded.inserted) for name, loaded in first.tables.items()}
    assert again.tables == unchanged


def test_late_change_replaces_the_rows_of_its_conversation_only(lake: LakeUnderTest) -> None:
    """One conversation ends, says more and gets its cost; the rows of the other keep their version."""
    running = conversation("a", said=("Hello.",), status="started", ended_at=None, cost_breakdown=None)
    load(lake, [page(running, conversation("b"))])
    ended = [page(conversation("a", said=("Hello.", "Bye.", "Bye!")), conversation("b"))]
    receipt = load(lake, ended, at=LATER)
    assert receipt.tables["conversations"] == LoadedTable(updated=1, unchanged=1)
    assert receipt.tables["conversation_messages"] == LoadedTable(inserted=2, unchanged=3)
    assert receipt.tables["conversation_costs"].inserted > 0
    assert receipt.tables["agent_configs"] == LoadedTable(unchanged=1)
    assert {row["id"]: row["_exported_at"] for row in lake.read(CONVERSATIONS)} == {"a": LATER, "b": NOW}
    assert {row["_exported_at"] for row in lake.read(CONVERSATION_MESSAGES)} == {NOW, LATER}
    said = [("a", 1, "Hello."), ("a", 2, "Bye."), ("a", 3, "Bye!"), ("b", 1, "Hello."), ("b", 2, "Good bye.")]
    assert messages(lake) == said
    assert set(commits(lake).values()) == {1, 2}


def test_rows_that_a_conversation_no_longer_has_are_deleted(lake: LakeUnderTest) -> None:
    """The messages and costs of a conversation are replaced as a whole."""
    load(lake, [page(conversation("a", said=("1", "2", "3")), conversation("b"))])
    receipt = load(lake, [page(conversation("a", said=("1", "two"), cost_breakdown=None))], at=LATER)
    assert receipt.tables["conversation_messages"] == LoadedTable(updated=1, unchanged=1, deleted=1)
    assert [content for _, _, content in messages(lake)] == ["1", "two", "Hello.", "Good bye."]
    assert {row["conversation_id"] for row in lake.read(CONVERSATION_COSTS)} == {"b"}
    assert ids(lake) == ["a", "b"]
    load(lake, [page(conversation("a", said=(), cost_breakdown=None))], at=LATEST)
    assert {conversation_id for conversation_id, _, _ in messages(lake)} == {"b"}


def test_older_reading_never_overwrites_a_newer_row(lake: LakeUnderTest) -> None:
    """A delayed export adds the conversations that are new to the lake, and changes no others."""
    load(lake, [page(conversation("a", said=("new",)))], at=LATER)
    before = everything(lake)
    stuck = conversation("a", said=("old", "older"), status="started", ended_at=None)
    receipt = load(lake, [page(stuck, conversation("b", said=("mine",)))], at=NOW)
    assert receipt.tables["conversations"] == LoadedTable(inserted=1, outdated=1)
    assert receipt.tables["conversation_messages"] == LoadedTable(inserted=1, outdated=2)
    for table, owner in ((CONVERSATIONS, "id"), (CONVERSATION_MESSAGES, "conversation_id")):
        assert [row for row in lake.read(table) if row[owner] == "a"] == before[table.name]


def test_conversation_on_the_edge_of_two_intervals_is_there_once(lake: LakeUnderTest) -> None:
    """Both intervals list it; the later reading replaces the earlier one, in another partition."""
    load(lake, [page(conversation("edge"))])
    edge = conversation("edge", started_at="2026-11-02T00:00:00Z")
    receipt = load(lake, [page(edge)], at=LATER, interval=NEXT_DAY)
    assert receipt.tables["conversations"].updated == 1
    (row,) = lake.read(CONVERSATIONS)
    assert (row["_interval_start"], row["_exported_at"]) == (NEXT_DAY.start, LATER)
    assert lake.count(CONVERSATION_MESSAGES) == 2


def test_replacing_an_interval_leaves_exactly_what_the_api_lists(lake: LakeUnderTest) -> None:
    """A conversation that is not listed any more is deleted with its messages; other intervals stay."""
    load(lake, [page(conversation("gone"), conversation("kept"))])
    load(lake, [page(conversation("next", started_at="2026-11-02T10:00:00Z"))], interval=NEXT_DAY)
    receipt = load(lake, [page(conversation("kept"), conversation("new"))], at=LATER, disposition="replace")
    assert receipt.tables["conversations"] == LoadedTable(inserted=1, unchanged=1, deleted=1)
    assert receipt.tables["conversation_messages"] == LoadedTable(inserted=2, unchanged=2, deleted=2)
    assert ids(lake) == ["kept", "new", "next"]
    assert {row["conversation_id"] for row in lake.read(CONVERSATION_MESSAGES)} == {"kept", "new", "next"}
    assert lake.count(AGENT_CONFIGS) == 1


def test_replacing_works_after_a_change_of_the_schedule(lake: LakeUnderTest) -> None:
    """A day replaces the hours in it; an hour takes its own conversations out of the day."""
    load(lake, [page(conversation("a"), conversation("b"))])
    load(lake, [page(conversation("a"))], at=LATER, interval=HOUR, disposition="replace")
    ends = {row["id"]: row["_interval_end"] for row in lake.read(CONVERSATIONS)}
    assert ends == {"a": HOUR.end, "b": DAY.end}
    load(lake, [page(conversation("b"))], at=LATEST, disposition="replace")
    assert ids(lake) == ["b"]
    assert {row["conversation_id"] for row in lake.read(CONVERSATION_MESSAGES)} == {"b"}


def test_replacing_with_nothing_empties_the_interval(lake: LakeUnderTest) -> None:
    """Merging nothing changes nothing."""
    load(lake, [page(conversation("a"))])
    merged = load(lake, [page()], at=LATER)
    assert merged.tables["conversations"] == LoadedTable()
    assert ids(lake) == ["a"]
    replaced = load(lake, [page()], at=LATER, disposition="replace")
    assert replaced.tables["conversation_messages"] == LoadedTable(deleted=2)
    assert [lake.count(table) for table in TABLES] == [0, 0, 0, 1]


def test_only_the_newest_reading_replaces_an_interval(lake: LakeUnderTest) -> None:
    """An older one does not know what was deleted since; a retry reads again."""
    load(lake, [page(conversation("a"))], at=LATER, disposition="replace")
    with pytest.raises(VoiceOSDestinationError, match="that a later export has read") as refused:
        load(lake, [page(conversation("a"), conversation("deleted since"))], disposition="replace")
    assert refused.value.retryable
    assert ids(lake) == ["a"]


def test_appending_repeats_rows_but_no_configuration(lake: LakeUnderTest) -> None:
    """Each export adds its own rows."""
    for at in (NOW, LATER):
        receipt = load(lake, [page(conversation("a"), conversation("b"))], at=at, disposition="append")
        assert receipt.tables["conversations"] == LoadedTable(inserted=2)
    assert ids(lake) == ["a", "a", "b", "b"]
    assert lake.count(CONVERSATION_MESSAGES) == 8
    assert lake.count(AGENT_CONFIGS) == 1


def test_appending_again_what_was_committed_adds_nothing(lake: LakeUnderTest) -> None:
    """A retry resumes with the time of the first attempt, and finds its commits by their export id."""
    for _ in range(2):
        receipt = load(lake, [page(conversation("a"))], disposition="append")
        assert receipt.tables["conversations"] == LoadedTable(inserted=1)
    assert ids(lake) == ["a"]
    assert lake.count(CONVERSATION_MESSAGES) == 2


def test_merging_into_appended_tables_is_rejected(lake: LakeUnderTest) -> None:
    """Several rows have one key, so nothing is written."""
    for at in (NOW, LATER):
        load(lake, [page(conversation("a"))], at=at, disposition="append")
    with pytest.raises(VoiceOSExportError, match="several rows with one"):
        load(lake, [page(conversation("a"))], at=LATEST)
    assert ids(lake) == ["a", "a"]


def test_a_subset_of_the_tables_follows_the_same_rules(lake: LakeUnderTest) -> None:
    """Without `conversations`, each table keeps its own row versions."""
    some = (CONVERSATION_MESSAGES,)
    load(lake, [page(conversation("a", said=("1", "2", "3")), conversation("b"))], at=LATER, tables=some)
    receipt = load(lake, [page(conversation("a", said=("old",)))], at=NOW, tables=some)
    assert receipt.tables == {"conversation_messages": LoadedTable(outdated=1)}
    one = [page(conversation("a", said=("1",)))]
    receipt = load(lake, one, at=LATEST, tables=some, disposition="replace")
    assert receipt.tables == {"conversation_messages": LoadedTable(unchanged=1, deleted=4)}
    assert messages(lake) == [("a", 1, "1")]


def test_table_that_is_exported_later_gets_no_outdated_rows(lake: LakeUnderTest) -> None:
    """The row version of `conversations` decides for the rows of a new table."""
    load(lake, [page(conversation("a"))], at=LATER, tables=(CONVERSATIONS,))
    receipt = load(lake, [page(conversation("a", said=("old",)), conversation("b"))], at=NOW)
    assert receipt.tables["conversation_messages"] == LoadedTable(inserted=2, outdated=1)
    assert {row["conversation_id"] for row in lake.read(CONVERSATION_MESSAGES)} == {"b"}


def test_two_loads_at_once_keep_each_conversation_once(lake: LakeUnderTest) -> None:
    """Both succeed, in whichever order, although their commits conflict."""
    emulator = emulate(120)
    pages = list(read_pages(emulator))
    load(lake, [page()])
    failures: list[BaseException] = []
    start = threading.Barrier(2)

    def run(at: datetime) -> None:
        try:
            start.wait(timeout=30)
            load(lake, pages, at=at)
        except BaseException as error:  # noqa: BLE001  the test reports whatever it was
            failures.append(error)

    threads = [threading.Thread(target=run, args=(at,)) for at in (NOW, LATER)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for table in TABLES:
        found = [{**row, "_exported_at": None} for row in lake.read(table)]
        assert found == [{**row, "_exported_at": None} for row in expected(pages, table)]


def test_conflicting_commit_is_computed_again(lake: LakeUnderTest) -> None:
    """Another export commits a newer version between reading the table and committing to it."""
    load(lake, [page(conversation("a", said=("first",)), conversation("b"))])
    newest = [page(conversation("a", said=("newest",)))]
    stale = interrupted(
        lake.destination(), CONVERSATION_MESSAGES, "commit", lambda: load(lake, newest, at=LATEST)
    )
    pages = [page(conversation("a", said=("older",)), conversation("c", said=("mine",)))]
    receipt = export_pages(pages, exported_at=LATER, target=stale, tables=TABLES)
    assert receipt.tables["conversation_messages"] == LoadedTable(inserted=1, outdated=1)
    assert messages(lake) == [("a", 1, "newest"), ("b", 1, "Hello."), ("b", 2, "Good bye."), ("c", 1, "mine")]


def test_missing_column_is_added(lake: LakeUnderTest) -> None:
    """Existing rows have no value in it; new rows have."""
    load(lake, [page(conversation("a"))])
    lake.drop_column(CONVERSATIONS, "uri")
    load(lake, [page(conversation("b"))], at=LATER)
    for reader in lake.libraries:
        rows = lake.read(CONVERSATIONS, reader=reader)
        assert {row["id"]: row["uri"] is None for row in rows} == {"a": True, "b": False}


def test_pending_conversations_are_found_before_a_missing_column_is_added(lake: LakeUnderTest) -> None:
    """The first export with `carry_pending` after an upgrade reads the table before it adds the column."""
    load(lake, [page(conversation("late", status="started", ended_at=None))])
    lake.drop_column(CONVERSATIONS, "uri")
    due = lake.destination().find_pending(NEXT_DAY, timedelta(days=3))
    assert due == PendingConversations({"late": DAY})


def test_column_of_the_user_stays_as_it_is(lake: LakeUnderTest) -> None:
    """Existing rows keep its values unless they are replaced; new rows have none."""
    load(lake, [page(conversation("a"))])
    lake.add_column(CONVERSATIONS, "my_note")
    load(lake, [page(conversation("b"))], at=LATER)
    load(lake, [page(conversation("b", status="started"))], at=LATEST)
    rows = lake.scan(CONVERSATIONS, lake.libraries[0])
    assert [(row["id"], row["my_note"]) for row in sorted(rows, key=lambda row: row["id"])] == [
        ("a", None),
        ("b", None),
    ]


def test_without_permission_to_create_the_error_names_what_is_missing(lake: LakeUnderTest) -> None:
    """The table, or a column of it."""
    with pytest.raises(VoiceOSError, match=r"conversations.*create_tables"):
        load(lake, [], create=False)
    load(lake, [page(conversation("a"))])
    lake.drop_column(CONVERSATIONS, "uri")
    with pytest.raises(VoiceOSError, match=r"uri.*create_tables"):
        load(lake, [page(conversation("b"))], create=False)
    assert [row["id"] for row in lake.scan(CONVERSATIONS, lake.libraries[0])] == ["a"]


def test_failed_export_leaves_the_tables_unchanged(lake: LakeUnderTest) -> None:
    """It has read a page."""
    load(lake, [page(conversation("a"))])
    before = everything(lake)

    def pages() -> Iterable[RawPage]:
        yield page(conversation("a", said=()), conversation("b"))
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        load(lake, pages(), at=LATER)
    assert everything(lake) == before


def test_odd_values_arrive_unchanged(lake: LakeUnderTest) -> None:
    """Quotes, separators, escapes, other alphabets, emoji, and the difference between nothing and empty."""
    said = (
        "",
        " ",
        "'\"`\\",
        "a\tb\r\nc",
        "\\N",
        "NULL",
        "日本語 👋🏽",
        "{};--%s?",
        "\x01\x7f",
        "null\ufffd",
    )
    odd = conversation("it's", said=said, odd={"nested": ["\\", '"', "\n", None, 0.1]}, agent_id="")
    load(lake, [page(odd)])
    for reader in lake.libraries:
        (row,) = lake.read(CONVERSATIONS, reader=reader)
        assert (row["extra"], row["agent_id"]) == ({"odd": {"nested": ["\\", '"', "\n", None, 0.1]}}, "")
        assert [row["content"] for row in lake.read(CONVERSATION_MESSAGES, reader=reader)] == list(said)
    again = load(lake, [page(odd)], at=LATER)
    assert again.tables["conversation_messages"] == LoadedTable(unchanged=len(said))
    changed = load(lake, [page({**odd, "agent_id": None})], at=LATEST)
    assert changed.tables["conversations"] == LoadedTable(updated=1)


def test_ids_are_distinguished_by_every_character(lake: LakeUnderTest) -> None:
    """Case, accents, quotes and spaces count, and so does every character of a long id."""
    odd = ["a", "A", "á", "ä", "a ", "a'b", "z" * 700]
    load(lake, [page(*map(conversation, odd))])
    receipt = load(lake, [page(*map(conversation, odd))], at=LATER)
    assert receipt.tables["conversations"] == LoadedTable(unchanged=len(odd))
    load(lake, [page(conversation("a'b", said=("changed",)), conversation("á", status="started"))], at=LATEST)
    assert ids(lake) == sorted(odd)


def test_commit_carries_interval_receipt_and_export_id(lake: LakeUnderTest) -> None:
    """Readers of the history see which export wrote what."""
    load(lake, [page(conversation("a"))])
    (commit,) = lake.commits(CONVERSATIONS)
    assert commit["voiceos.interval-start"] == "2026-11-01T00:00:00Z"
    assert commit["voiceos.interval-end"] == "2026-11-02T00:00:00Z"
    assert commit["voiceos.export-id"] == "2026-11-01T00:00:00Z/2026-11-02T00:00:00Z@2026-11-22T12:00:00Z"
    assert len(commit["voiceos.receipt-sha256"]) == 64


def test_prefixes_separate_tables(lake: LakeUnderTest) -> None:
    """Two exports into one namespace do not meet."""
    load(lake, [page(conversation("a"))], table_prefix="one_")
    load(lake, [page(conversation("b"))], table_prefix="two_")
    found = {prefix: lake.read(CONVERSATIONS, table_prefix=prefix)[0]["id"] for prefix in ("one_", "two_")}
    assert found == {"one_": "a", "two_": "b"}


def test_conversations_that_have_not_ended_are_requested_until_they_end_or_are_too_old(
    lake: LakeUnderTest,
) -> None:
    """Late arrivals keep their own interval."""
    running = conversation("late", status="started", ended_at=None, cost_breakdown=None)
    stuck = conversation("stuck", status="queued", started_at=None, ended_at=None, cost_breakdown=None)
    three_days = timedelta(days=3)
    assert lake.destination().find_pending(NEXT_DAY, three_days) == PendingConversations()
    load(lake, [page(running, stuck, conversation("done"))])
    due = PendingConversations({"late": DAY, "stuck": DAY})
    assert lake.destination().find_pending(NEXT_DAY, three_days) == due
    late_arrivals = LateArrivals(
        PendingConversations({"late": DAY}), lambda ids: ((id_, page(conversation(id_))) for id_ in ids)
    )
    target = lake.destination()
    receipt = export_pages(
        [], interval=NEXT_DAY, exported_at=LATER, target=target, late_arrivals=late_arrivals
    )
    assert receipt.tables["conversations"] == LoadedTable(updated=1)
    assert ids(lake) == ["done", "late", "stuck"]
    assert {row["_interval_start"] for row in lake.read(CONVERSATIONS)} == {DAY.start}
    receipt = load(lake, [], interval=NEXT_DAY, at=LATER, disposition="replace")
    assert receipt.tables["conversations"] == LoadedTable()
    days = [Interval(DAY.start + timedelta(days=n), DAY.end + timedelta(days=n)) for n in range(6)]
    found = [lake.destination().find_pending(day, three_days) for day in days]
    assert [tuple(each.ids) for each in found] == [(), ("stuck",), ("stuck",), ("stuck",), (), ()]
    assert [each.abandoned for each in found] == [(), (), (), (), ("stuck",), ()]
