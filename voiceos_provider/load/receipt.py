"""What did an export do?"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from voiceos_provider.exceptions import VoiceOSExportError

_IDS_SHOWN = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedFile:
    """A file that now stands where readers find it.

    :param table: the table whose rows it holds
    :param path: where it is, without credentials
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
    """What became of the rows of one table of a database.

    :param inserted: rows that did not stand there
    :param updated: rows that stood there and said something else
    :param unchanged: rows that stood there and said the same, the times of exports apart
    :param deleted: rows that stood there and that the API has no more
    :param outdated: rows left out, for the table holds a later reading of them
    """

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    outdated: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What was read from the API, before anything was published.

    :param interval_start: RFC 3339; first instant of creation time that was asked for
    :param interval_end: RFC 3339; its exclusive end
    :param status: the states that were asked for; None for all
    :param exported_at: RFC 3339; when the export began
    :param requests: answered requests for listings; not what was sent again, nor asked for by id
    :param pages: pages read
    :param listed: conversations on them
    :param filtered: of those, left out for their state
    :param pending: of those, left out because they had not ended, and may be asked for again when they have
    :param pending_ids: all conversations of the interval that had not ended, left out or exported as they were
    :param carried: conversations of earlier intervals that have ended since and are exported here
    :param gone: conversations of earlier intervals that do not exist any more
    :param abandoned: conversations of earlier intervals that have not ended in time, and are not asked for any more
    :param settled_ids: the carried and the gone
    :param rejected: of those, set aside because they cannot be keyed
    :param invalid_values: per column, values of another kind than documented; they are in `extra`
    :param undocumented_fields: per path, how often a key came that is not documented; they are in `extra`, too
    :param undocumented_values: per column, values of an enum that are not documented
    :param replaced_characters: NULs and halves of surrogate pairs that became U+FFFD
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
    carried: int = 0
    gone: int = 0
    abandoned: int = 0
    settled_ids: list[str] = field(default_factory=list)
    rejected: int = 0
    invalid_values: dict[str, int] = field(default_factory=dict)
    undocumented_fields: dict[str, int] = field(default_factory=dict)
    undocumented_values: dict[str, list[str]] = field(default_factory=dict)
    replaced_characters: int = 0

    def require_sum(self, exported: int, duplicates: int) -> None:
        """Make sure that everything listed has become of something.

        :raises VoiceOSExportError: if the numbers do not add up
        """
        if self.listed != exported + duplicates + self.filtered + self.pending + self.rejected:
            raise VoiceOSExportError(
                f"{self.listed} conversations were listed, but {exported} exported, {duplicates} duplicates, "
                f"{self.filtered} filtered, {self.pending} pending and {self.rejected} rejected do not add up to them."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReceipt(Reading):
    """What an export read and published: `listed = exported + duplicates + filtered + pending + rejected`.

    :param target: where it went
    :param exported: conversations published
    :param duplicates: earlier copies of conversations that were listed more than once
    :param files: what was published
    :param manifest: where this receipt was published, if it was
    :param rejected_file: where the rejected conversations are, if there are any
    :param tables: what became of the rows of each table, if it went to a database
    """

    target: str
    exported: int
    duplicates: int
    files: list[PublishedFile]
    manifest: str | None = None
    rejected_file: str | None = None
    tables: dict[str, LoadedTable] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON, always with the same keys."""
        return asdict(self)

    def summary(self) -> dict[str, Any]:
        """The same for XCom and asset events, where long lists of ids are cut short; the manifest has all of them."""
        whole = self.as_dict()
        return whole | {name: whole[name][:_IDS_SHOWN] for name in ("pending_ids", "settled_ids")}

    def __str__(self) -> str:
        parts = [f"{self.exported:,} conversations to {self.target}: {self.listed:,} listed"]
        parts += [
            f"{number:,} {name}"
            for name, number in (
                ("filtered", self.filtered),
                ("pending", self.pending),
                ("late arrivals", self.carried),
                ("gone", self.gone),
                ("abandoned", self.abandoned),
                ("duplicates", self.duplicates),
                ("rejected", self.rejected),
                ("invalid values", sum(self.invalid_values.values())),
            )
            if number
        ]
        parts += [f"{file.rows:,} rows in {file.path}" for file in self.files]
        parts += [
            f"{name}: {' '.join(f'{rows:,} {what}' for what, rows in asdict(table).items() if rows) or 'nothing'}"
            for name, table in self.tables.items()
        ]
        return ", ".join(parts)
