"""How much of an interval has been read so far, and what is left of it for another try?"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Self

from voiceos_provider.client import RawPage
from voiceos_provider.interval import Interval, isoformat
from voiceos_provider.load.checkpoint import Checkpoint, ReadProgress
from voiceos_provider.load.receipt import Reading
from voiceos_provider.transform import Decoded, Drift
from voiceos_provider.transform.schema import CONVERSATIONS


@dataclass(slots=True)
class Counters:
    """What has been read so far.

    :param covered: stretches of creation time that have been read whole
    """

    reading: Reading
    drift: Drift = field(default_factory=Drift)
    pending: set[str] = field(default_factory=set)
    covered: list[Interval] = field(default_factory=list)

    @classmethod
    def begin(
        cls,
        checkpoint: Checkpoint | None,
        *,
        interval: Interval,
        statuses: Collection[str],
        exported_at: datetime,
    ) -> Self:
        """What an earlier try had read, or nothing.

        :param exported_at: when the export began, if it begins now
        """
        if checkpoint:
            return cls._restored(checkpoint)
        reading = Reading(
            interval_start=isoformat(interval.start),
            interval_end=isoformat(interval.end),
            status=sorted(statuses) or None,
            exported_at=isoformat(exported_at),
        )
        return cls(reading)

    @classmethod
    def _restored(cls, checkpoint: Checkpoint) -> Self:
        read = checkpoint.read
        drift = Drift.from_dict(read.drift)
        return cls(read.reading, drift, set(read.pending), list(read.covered))

    @property
    def exported_at(self) -> datetime:
        """When the export began: the first of its tries."""
        return datetime.fromisoformat(self.reading.exported_at)

    def add(self, some: list[RawPage], rows: Decoded) -> None:
        """Count some pages, and what became of what was on them."""
        reading = self.reading
        self.drift.update(rows.drift)
        exported = rows.rows[CONVERSATIONS.name].batch.column("id").to_pylist()
        seen_pending = len(self.pending) + len(rows.pending)
        self.pending.update(rows.pending)
        self.pending.difference_update(exported)
        self.reading = replace(
            reading,
            requests=reading.requests + sum(page.requests for page in some),
            pages=reading.pages + len(some),
            listed=reading.listed + sum(len(page.items) for page in some),
            filtered=reading.filtered + rows.filtered,
            pending=len(self.pending),
            duplicates=reading.duplicates + seen_pending - len(self.pending),
            rejected=reading.rejected + len(rows.rejected),
            replaced_characters=reading.replaced_characters + sum(page.replaced for page in some),
        )
        self.covered += [page.covers for page in some if page.covers]

    def progress(self) -> ReadProgress:
        """Return what a checkpoint keeps."""
        self.covered = _joined(self.covered)
        return ReadProgress(
            reading=self.reading,
            drift=self.drift.as_dict(),
            pending=tuple(sorted(self.pending)),
            covered=tuple(self.covered),
        )

    def closed(self) -> Reading:
        """The whole of it."""
        return replace(
            self.reading,
            pending_ids=sorted(self.pending),
            **self.drift.as_dict(),
        )


def left_to_read(checkpoint: Checkpoint | None, interval: Interval) -> list[Interval]:
    """What of an interval an earlier try has left to read: all of it, if there was none."""
    return interval.without(Counters._restored(checkpoint).covered) if checkpoint else [interval]


def began_at(checkpoint: Checkpoint | None) -> datetime | None:
    """When the export began that an earlier try has left to go on with; None if there was none."""
    return Counters._restored(checkpoint).exported_at if checkpoint else None


def _joined(stretches: Iterable[Interval]) -> list[Interval]:
    """The same stretches, with those that meet as one."""
    joined: list[Interval] = []
    for stretch in sorted(stretches, key=lambda stretch: stretch.start):
        if joined and joined[-1].end >= stretch.start:
            joined[-1] = Interval(joined[-1].start, max(joined[-1].end, stretch.end))
        else:
            joined.append(stretch)
    return joined
