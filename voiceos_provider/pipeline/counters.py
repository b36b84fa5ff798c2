"""Counters of one export: conversations read, their outcomes, and the ranges completed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Self

from voiceos_provider.client import RawPage
from voiceos_provider.interval import Interval, isoformat, joined
from voiceos_provider.load.checkpoint import Checkpoint, ReadProgress
from voiceos_provider.load.receipt import ReadCounts
from voiceos_provider.options import ExportOptions
from voiceos_provider.transform import Decoded, Drift

_RANGES = 1_000
"""Completed ranges above which those that meet are joined."""


@dataclass(slots=True)
class Counters:
    """What has been read so far.

    :param reading: the numbers for the receipt
    :param pending: conversations that were left out because they had not ended
    :param unfinished: conversations that were exported as they were, and had not ended
    :param covered: ranges of creation time that were read completely
    """

    reading: ReadCounts
    drift: Drift = field(default_factory=Drift)
    pending: set[str] = field(default_factory=set)
    unfinished: set[str] = field(default_factory=set)
    covered: list[Interval] = field(default_factory=list)

    @classmethod
    def resume(cls, checkpoint: Checkpoint | None, options: ExportOptions, *, now: datetime) -> Self:
        """Return the counters of an earlier attempt, or new ones.

        :param now: when the export begins, if it begins now
        """
        if checkpoint is None:
            return cls(
                ReadCounts(
                    interval_start=isoformat(options.interval.start),
                    interval_end=isoformat(options.interval.end),
                    status=sorted(options.statuses) or None,
                    exported_at=isoformat(now),
                )
            )
        read = checkpoint.read
        drift = Drift.from_dict(read.drift)
        return cls(read.reading, drift, set(read.pending), set(read.unfinished), list(read.covered))

    @property
    def exported_at(self) -> datetime:
        """When the export began, in its first attempt."""
        return datetime.fromisoformat(self.reading.exported_at)

    def is_open(self, id_: str | None) -> bool:
        """Return whether a conversation had not ended when it was read; if it is listed again, it is read again."""
        return id_ in self.pending or id_ in self.unfinished

    def add(self, pages: list[RawPage], rows: Decoded, *, repeated_rejects: int = 0) -> None:
        """Count pages, and the outcomes of the conversations on them.

        :param rows: the rows of the conversations on these pages
        :param repeated_rejects: rejected records that an earlier attempt has set aside
        """
        reading = self.reading
        self.drift.update(rows.drift)
        unreadable = [id_ for page in pages for id_ in page.unreadable]
        self.reading = replace(
            reading,
            requests=reading.requests + sum(page.requests for page in pages),
            pages=reading.pages + sum(bool(page.items) for page in pages),
            listed=reading.listed + sum(len(page.items) for page in pages) + len(unreadable),
            filtered=reading.filtered + rows.filtered,
            rejected=reading.rejected + len(rows.rejected) - repeated_rejects,
            duplicates=reading.duplicates + repeated_rejects,
            replaced_characters=reading.replaced_characters + sum(page.replaced for page in pages),
        )
        self._add_pending([*rows.pending, *unreadable])
        self.covered += [page.covers for page in pages if page.covers]
        if len(self.covered) > _RANGES:
            self.covered = joined(self.covered)
        if self.unfinished:  # some may have ended since
            self.unfinished.difference_update(id_ for page in pages for id_ in page.ids if id_ is not None)
        self.unfinished.update(rows.unfinished)

    def add_late_arrivals(self, counts: Mapping[str, Any]) -> None:
        """Add the numbers of conversations of earlier intervals that were requested again."""
        self.reading = replace(self.reading, **counts)

    def progress(self) -> ReadProgress:
        """Return what a checkpoint keeps."""
        self.covered = joined(self.covered)
        return ReadProgress(
            reading=self.reading,
            drift=self.drift.as_dict(),
            pending=tuple(sorted(self.pending)),
            unfinished=tuple(sorted(self.unfinished)),
            covered=tuple(self.covered),
        )

    def close(self) -> ReadCounts:
        """Return the final numbers.

        A conversation may have been listed before and after its end; the writer, which has the rows, corrects that.
        """
        return replace(
            self.reading,
            pending=len(self.pending),
            pending_ids=sorted(self.pending),
            unfinished_ids=sorted(self.unfinished),
            **self.drift.as_dict(),
        )

    def _add_pending(self, ids: Collection[str]) -> None:
        known = len(self.pending)
        self.pending.update(ids)
        repeated = len(ids) - (len(self.pending) - known)
        if repeated:
            self.reading = replace(self.reading, duplicates=self.reading.duplicates + repeated)
