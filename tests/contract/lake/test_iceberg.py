"""What is special about Iceberg tables: types, partitions, comments, and which files a merge writes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from tests.support.conversations import conversation
from tests.support.exporting import DAY, NOW, export_pages, page
from tests.support.lakes import Location, interrupted, make_lake
from voiceos_provider.exceptions import VoiceOSExportError
from voiceos_provider.interval import Interval
from voiceos_provider.transform import TABLES
from voiceos_provider.transform.schema import AGENT_CONFIGS, CONVERSATION_MESSAGES, CONVERSATIONS

LATER = NOW + timedelta(hours=1)


@pytest.fixture
def lake(tmp_path: Path):
    """Return an Iceberg lake on local disk, without tables."""
    return make_lake("iceberg", Location(tmp_path, str(tmp_path / "tables")))


def hours() -> list[Interval]:
    """Return the hours of a day."""
    return [Interval(DAY.start + timedelta(hours=n), DAY.start + timedelta(hours=n + 1)) for n in range(24)]


def files(lake, table=CONVERSATIONS) -> set[str]:
    """Return the data files of a table's current snapshot."""
    return {task.file.file_path for task in lake.existing(table).scan().plan_files()}


def test_table_has_the_declared_types_comments_and_field_ids(lake) -> None:
    """Fields are numbered in the order of the declaration, and partitions are days of `_interval_start`."""
    export_pages([page(conversation("a"))], target=lake.destination())
    for table in TABLES:
        schema = lake.existing(table).schema()
        assert [(field.field_id, field.name, field.doc) for field in schema.fields] == [
            (number, column.name, column.description) for number, column in enumerate(table.columns, 1)
        ]
        assert [field.required for field in schema.fields] == [
            not column.nullable for column in table.columns
        ]
    existing = lake.existing(CONVERSATIONS)
    types = {field.name: str(field.field_type) for field in existing.schema().fields}
    assert types["total_cost"] == "decimal(38, 24)"
    assert types["started_at"] == "timestamptz"
    assert existing.metadata.format_version == 2
    assert [str(field.transform) for field in existing.spec().fields] == ["day"]
    assert [field.source_id for field in existing.sort_order().fields] == [
        CONVERSATIONS.schema.names.index(name) + 1 for name in ("account_id", "started_at")
    ]
    assert lake.existing(AGENT_CONFIGS).spec().is_unpartitioned()
    assert existing.properties["comment"] == CONVERSATIONS.description


@pytest.mark.slow
def test_merge_writes_only_files_with_a_changed_row(lake) -> None:
    """One of 24 hourly files of a day is replaced."""
    for number, hour in enumerate(hours()):
        started = (hour.start + timedelta(minutes=5)).isoformat()
        calls = [conversation(f"{number}-{n}", started_at=started) for n in range(3)]
        export_pages([page(*calls)], interval=hour, target=lake.destination())
    before = files(lake)
    assert len(before) == 24
    late = [page(conversation("7-1", status="started", started_at="2026-11-01T07:05:00Z"))]
    export_pages(late, interval=hours()[7], exported_at=LATER, target=lake.destination())
    after = files(lake)
    assert (len(before - after), len(after - before), len(after)) == (1, 1, 24)
    assert lake.count(CONVERSATIONS) == 72


def test_partition_is_the_day_of_the_interval(lake) -> None:
    """A query for one day reads the files of that day."""
    for day in range(3):
        interval = Interval(DAY.start + timedelta(days=day), DAY.end + timedelta(days=day))
        started = (interval.start + timedelta(hours=5)).isoformat()
        export_pages(
            [page(conversation(f"{day}", started_at=started))], interval=interval, target=lake.destination()
        )
    first = "_interval_start < '2026-11-02T00:00:00+00:00'"
    existing = lake.existing(CONVERSATIONS)
    assert len(files(lake)) == 3
    (task,) = existing.scan(row_filter=first).plan_files()
    assert task.file.partition[0] == (DAY.start - datetime(1970, 1, 1, tzinfo=UTC)).days


def test_properties_and_partitions_of_the_user_are_respected(lake) -> None:
    """A user repartitions the table; rows move to the new partitions as they change."""
    export_pages([page(conversation("a"), conversation("b"))], target=lake.destination())
    existing = lake.existing(CONVERSATIONS)
    with existing.transaction() as transaction:
        transaction.set_properties({"owner": "data team", "commit.retry.num-retries": "7"})
    with existing.update_spec() as update:
        update.add_identity("type")
    export_pages([page(conversation("a", status="started"))], exported_at=LATER, target=lake.destination())
    existing = lake.existing(CONVERSATIONS)
    properties = {name: existing.properties[name] for name in ("owner", "commit.retry.num-retries")}
    assert properties == {"owner": "data team", "commit.retry.num-retries": "7"}
    (task,) = existing.scan().plan_files()
    assert task.file.spec_id == existing.spec().spec_id
    for reader in lake.libraries:
        found = {row["id"]: row["status"] for row in lake.read(CONVERSATIONS, reader=reader)}
        assert found == {"a": "started", "b": "ended"}


def test_metadata_has_bounds_of_no_personal_data(lake) -> None:
    """Bounds would stay in the metadata after the rows were deleted."""
    export_pages([page(conversation("a"))], target=lake.destination())
    names = {}
    for table in TABLES:
        existing = lake.existing(table)
        (task,) = existing.scan().plan_files()
        names[table.name] = {existing.schema().find_column_name(id_) for id_ in task.file.lower_bounds}
    audit = {"_interval_start", "_interval_end", "_exported_at"}
    assert names == {
        "conversations": {"id", "account_id", "started_at"} | audit,
        "conversation_costs": {"conversation_id", "component"} | audit,
        "conversation_messages": {"conversation_id", "ordinal"} | audit,
        "agent_configs": {"agent_config_hash"} | audit,
    }


@pytest.mark.slow
def test_compaction_leaves_one_file_for_each_past_day(lake) -> None:
    """The rows stay as they are, and the files of the last hours do, too."""
    for hour in hours()[:4]:
        started = (hour.start + timedelta(minutes=5)).isoformat()
        export_pages(
            [page(conversation(hour.label, started_at=started))], interval=hour, target=lake.destination()
        )
    next_day = Interval(DAY.end, DAY.end + timedelta(hours=1))
    export_pages([page(conversation("next"))], interval=next_day, target=lake.destination())
    before = {table.name: lake.read(table) for table in TABLES}
    for table in TABLES:
        existing = lake.lake().table(table)
        existing.load(create=False)
        existing.compact(before=DAY.end)
        existing.load(create=False)
        existing.compact(before=DAY.end)
    assert {table.name: lake.read(table) for table in TABLES} == before
    assert {table.name: lake.read(table, reader="duckdb") for table in TABLES} == before
    assert len(files(lake)) == 2
    assert len(lake.commits(CONVERSATIONS)) == 6


def test_conflict_removes_the_files_that_were_written(lake, tmp_path: Path) -> None:
    """A commit that another writer has overtaken leaves no data file behind."""
    export_pages([page(conversation("a"))], target=lake.destination())
    other = partial(export_pages, [page(conversation("b"))], exported_at=LATER, target=lake.destination())
    stale = interrupted(lake.destination(), CONVERSATION_MESSAGES, "commit", other)
    export_pages([page(conversation("c"))], exported_at=LATER, target=stale)
    on_disk = {str(path) for path in (tmp_path / "tables").rglob("*.parquet")}
    assert on_disk == {path.removeprefix("file://") for table in TABLES for path in files(lake, table)}
    assert lake.count(CONVERSATIONS) == 3


def test_tag_that_keeps_erased_rows_is_named(lake) -> None:
    """The message says what to do; after that, another run completes the erasure."""
    export_pages([page(conversation("a"), conversation("b"))], target=lake.destination())
    existing = lake.existing(CONVERSATIONS)
    existing.manage_snapshots().create_tag(existing.current_snapshot().snapshot_id, "audit").commit()
    with pytest.raises(VoiceOSExportError, match=r"branches and tags .* audit"):
        lake.destination().erase(["a"])
    assert [row["id"] for row in lake.read(CONVERSATIONS)] == ["b"]
    lake.existing(CONVERSATIONS).manage_snapshots().remove_tag("audit").commit()
    lake.destination().erase(["a"])
    assert len(lake.existing(CONVERSATIONS).snapshots()) == 1
