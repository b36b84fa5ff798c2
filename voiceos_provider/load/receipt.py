"""Receipt of an export: what was read, what was published, and where."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from voiceos_provider.exceptions import VoiceOSExportError

_IDS_SHOWN = 1_000
LISTS_OF_IDS = ("pending_ids", "unfinished_ids", "resolved_ids")


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedFile:
    """A published data file.

    :param table: the table whose rows it holds
    :param path: where it is, without credentials
    :param rows: its rows
    :param bytes: its size
    :param sha256: its checksum, in hexadecimal
    :param schema_fingerprint: equal for files that the same query can read
    """

    table: str
    path: str
    rows: int
    bytes: int
    sha256: str
    schema_fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedTable:
    """What a load did to the rows of one database table.

    :param inserted: new rows
    :param updated: existing rows that have changed
    :param unchanged: existing rows that differ only in the times of exports
    :param deleted: deleted rows, whose conversations the API does not list any more
    :param outdated: rows left out because the table holds a later version of them
    :param json_as_text: JSON documents beyond the limits of the engine, stored as a JSON string with their text
    :param oversized: texts longer than the longest text of the engine, stored as null
    """

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    outdated: int = 0
    json_as_text: int = 0
    oversized: int = 0

    def __add__(self, other: Self) -> Self:
        return type(self)(**{name: rows + getattr(other, name) for name, rows in asdict(self).items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadCounts:
    """What was read from the API, before anything is published.

    :param interval_start: RFC 3339; first instant of creation time
    :param interval_end: RFC 3339; its exclusive end
    :param status: the states exported; None for all
    :param exported_at: RFC 3339; when the export began
    :param requests: answered requests for listings, without retries and requests by id
    :param pages: pages read
    :param listed: conversations on them
    :param filtered: of those, left out because of their state
    :param pending: of those, left out because they had not ended
    :param pending_ids: their ids; `carry_pending` exports them later
    :param unfinished_ids: conversations exported as they were, which had not ended; `carry_pending` exports them again
    :param carried: late arrivals: conversations of earlier intervals that have ended since and are exported here
    :param gone: conversations of earlier intervals that do not exist any more
    :param abandoned: conversations of earlier intervals that have not ended within the maximum age
    :param resolved_ids: ids of the carried and the gone
    :param rejected: of those listed, set aside because they have no usable id
    :param duplicates: of those listed, copies of conversations that were delivered again
    :param invalid_values: per column, values of another kind than documented; they are in `extra`
    :param undocumented_fields: per path, number of occurrences of an undocumented key; the values are in `extra`
    :param undocumented_values: per column, undocumented values of an enum
    :param replaced_characters: NULs and halves of surrogate pairs that became U+FFFD
    :param cost: total cost of the exported conversations in US dollars, to six decimals; None if none of them has one
    :param duration_seconds: their total duration; None if none of them has one
    """

    interval_start: str
    interval_end: str
    status: list[str] | None
    exported_at: str
    requests: int = 0
    pages: int = 0
    listed: int = 0
    filtered: int = 0
    pending: int = 0
    pending_ids: list[str] = field(default_factory=list)
    unfinished_ids: list[str] = field(default_factory=list)
    carried: int = 0
    gone: int = 0
    abandoned: int = 0
    resolved_ids: list[str] = field(default_factory=list)
    rejected: int = 0
    duplicates: int = 0
    invalid_values: dict[str, int] = field(default_factory=dict)
    undocumented_fields: dict[str, int] = field(default_factory=dict)
    undocumented_values: dict[str, list[str]] = field(default_factory=dict)
    replaced_characters: int = 0
    cost: float | None = None
    duration_seconds: float | None = None

    def with_rows(
        self,
        exported: Collection[str],
        unfinished: Collection[str],
        *,
        cost: float | None = None,
        duration_seconds: float | None = None,
    ) -> Self:
        """Return the counters corrected by the rows: a conversation may be listed before and after its end.

        :param exported: those of the pending conversations that have rows
        :param unfinished: conversations whose rows are of before their end
        :param cost: the sum of their total costs, if any has one
        :param duration_seconds: the sum of their durations, if any has one
        """
        from voiceos_provider.client.requests import ENDED

        awaited = self.status is None or ENDED in self.status
        return replace(
            self,
            pending=self.pending - len(exported),
            pending_ids=[id_ for id_ in self.pending_ids if id_ not in exported],
            unfinished_ids=sorted(unfinished) if awaited else [],
            duplicates=self.duplicates + len(exported),
            cost=cost,
            duration_seconds=duration_seconds,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReceipt(ReadCounts):
    """What an export read and published: `listed = exported + filtered + pending + rejected + duplicates`.

    Every conversation is counted once, and its further copies as duplicates. No id is both exported and pending.

    :param target: the destination, without credentials
    :param exported: conversations published
    :param manifest: where this receipt was published, if it was
    :param rejected_file: where the rejected conversations are, if there are any
    :param arguments: the arguments that decide what the files hold; None if there are no files
    :param removed_files: files of an earlier export of the interval that were removed
    :param tables: what became of the rows of each table, if they went to a database
    :param lock_wait_seconds: how long the load waited for other loads into the same tables
    """

    target: str
    exported: int
    files: list[PublishedFile] = field(default_factory=list)
    manifest: str | None = None
    rejected_file: str | None = None
    arguments: dict[str, Any] | None = None
    removed_files: list[str] = field(default_factory=list)
    tables: dict[str, LoadedTable] = field(default_factory=dict)
    lock_wait_seconds: float = 0.0

    @classmethod
    def of(cls, reading: ReadCounts, *, exported: int, replaced: int, **published: Any) -> Self:
        """Return the receipt for what was read, once the rows are known.

        :param exported: conversations published
        :param replaced: rows that a later copy of their conversation has replaced
        :raises VoiceOSExportError: if the counters do not add up
        """
        counts = asdict(reading) | {"duplicates": reading.duplicates + replaced}
        receipt = cls(**counts, exported=exported, **published)
        accounted = exported + receipt.duplicates + receipt.filtered + receipt.pending + receipt.rejected
        if receipt.listed != accounted:
            raise VoiceOSExportError(
                f"The counters do not add up: {receipt.listed} conversations were listed, but {exported} exported, "
                f"{receipt.duplicates} duplicates, {receipt.filtered} filtered, {receipt.pending} pending and "
                f"{receipt.rejected} rejected. Nothing was published; please report this."
            )
        return receipt

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON, always with the same keys."""
        return asdict(self)

    def summary(self) -> dict[str, Any]:
        """Return plain JSON for XCom and asset events, with at most 1,000 ids of each list.

        The manifest of an export to files holds all ids; a load into a database keeps no such list.
        """
        whole = self.as_dict()
        return whole | {name: whole[name][:_IDS_SHOWN] for name in LISTS_OF_IDS}

    def log_lines(self) -> Iterator[str]:
        """Yield the lines for the log: the totals, then one for each table or file."""
        yield f"Exported {self.exported:,} conversations to {self.target}."
        counts = {
            "filtered": self.filtered,
            "pending": self.pending,
            "late arrivals": self.carried,
            "gone": self.gone,
            "abandoned": self.abandoned,
            "duplicates": self.duplicates,
            "rejected": self.rejected,
            "invalid values": sum(self.invalid_values.values()),
        }
        others = [f"{count:,} {name}" for name, count in counts.items() if count]
        yield ", ".join([f"Of {self.listed:,} listed: {self.exported:,} exported", *others]) + "."
        for file in self.files:
            yield f"{file.table}: {file.rows:,} rows in {file.path}"
        for name, table in self.tables.items():
            changes = ", ".join(f"{rows:,} {what}" for what, rows in asdict(table).items() if rows)
            yield f"{name}: {changes or 'no rows'}"
        for removed in self.removed_files:
            yield f"Removed {removed}, which an earlier export wrote"
        if self.rejected_file:
            yield f"Rejected conversations: {self.rejected_file}"
        if self.manifest:
            yield f"Manifest: {self.manifest}"

    def event_extra(self) -> dict[str, Any]:
        """Return the receipt without ids of conversations, for the extra of an asset event."""
        return {name: value for name, value in self.as_dict().items() if name not in LISTS_OF_IDS}
