"""Files below a path: one for each table and interval, published once all rows are written."""

from __future__ import annotations

import hashlib
import logging
import pathlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from itertools import chain, count, islice
from typing import NamedTuple

import pyarrow as pa

from voiceos_provider.exceptions import VoiceOSExportError, VoiceOSValueError
from voiceos_provider.interval import Interval
from voiceos_provider.load.checkpoint import Checkpoint
from voiceos_provider.load.files import layout as keys
from voiceos_provider.load.files.formats import Encoding
from voiceos_provider.load.files.layout import LAYOUTS, Layout, require_one_day
from voiceos_provider.load.files.manifests import Manifests, WriteArguments
from voiceos_provider.load.files.publication import Publication
from voiceos_provider.load.files.store import Store, StorePath
from voiceos_provider.load.pending import PendingConversations, find_pending
from voiceos_provider.load.receipt import ExportReceipt, PublishedFile
from voiceos_provider.load.workdir import WorkDir, disk_errors
from voiceos_provider.load.writer import SpoolWriter
from voiceos_provider.options import ExportOptions
from voiceos_provider.transform import TABLES, Table, fingerprint

log = logging.getLogger(__name__)

SMALLEST_TARGET = 1_000_000
"""Files below this size cost readers more requests than they save."""


_PIECE_BYTES = 2**20


class FilesDestination:
    """One file per table and interval below a path, or several of limited size, with a manifest.

    :param path: the export's folder: an `ObjectStoragePath` or a `pathlib.Path`
    :param layout: ``flat``, or ``hive`` with a folder for each day
    :param target_file_bytes: size at which a data file ends and the next one begins; None for one file
    :param replace_existing: replace the files of an interval that was written with other arguments; by default the
        export fails before it reads anything
    """

    def __init__(
        self,
        path: StorePath | pathlib.Path,
        *,
        encoding: Encoding,
        layout: Layout = "flat",
        target_file_bytes: int | None = None,
        replace_existing: bool = False,
    ) -> None:
        if layout not in LAYOUTS:
            raise VoiceOSValueError(f"layout {layout!r} is not one of {', '.join(LAYOUTS)}.")
        if target_file_bytes is not None and target_file_bytes < SMALLEST_TARGET:
            raise VoiceOSValueError(
                f"target_file_bytes {target_file_bytes} is less than {SMALLEST_TARGET:,}."
            )
        self._store = Store(path)
        self._manifests = Manifests(self._store)
        self._encoding = encoding
        self._layout: Layout = layout
        self._target_file_bytes = target_file_bytes
        self._replace_existing = replace_existing
        self.uri = self._store.uri

    def find_pending(self, interval: Interval, max_age: timedelta) -> PendingConversations:
        """Return the pending conversations by the manifests below the path; see `Destination`."""
        return find_pending(self._manifests.outcomes(interval, max_age), interval, max_age)

    @contextmanager
    def open(
        self, options: ExportOptions, workdir: WorkDir, *, exported_at: datetime
    ) -> Iterator[FilesWriter]:
        """Yield a writer; see `Destination` and `Publication`.

        :raises VoiceOSDestinationError: at once, if the store cannot be read
        :raises VoiceOSExportError: at once, if the interval was written with other arguments, or others at this path
            in another layout
        :raises VoiceOSValueError: at once, if the layout has no folder for the interval
        """
        interval = options.interval
        if self._layout == "hive":
            require_one_day(interval)
        arguments = WriteArguments.of(
            options.statuses, options.tables, options.redaction, self._encoding, self._layout
        )
        self._manifests.check_others(interval, arguments)
        manifest = self._manifests.read(interval)
        if manifest is None:
            self._store.require_place()
        elif not self._replace_existing:
            self._manifests.require_same_arguments(interval, manifest, arguments)
        elif differences := arguments.differences(manifest.get("arguments")):
            log.warning("Replacing the files of %s: %s.", interval, "; ".join(differences))
        with workdir.folder() as folder:
            publication = Publication(
                store=self._store,
                folder=folder,
                options=options,
                arguments=arguments,
                replace_existing=self._replace_existing,
            )
            yield FilesWriter(
                publication,
                workdir.checkpoint,
                encoding=self._encoding,
                layout=self._layout,
                target_file_bytes=self._target_file_bytes,
            )


def _in_pieces(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the same rows in batches that are small beside a file."""
    for batch in batches:
        rows = max(1, len(batch) * _PIECE_BYTES // max(1, batch.nbytes))
        for start in range(0, len(batch), rows):
            yield batch.slice(start, rows)


class _EncodedFile(NamedTuple):
    """A data file on local disk, with its key and what the receipt has about it."""

    local: pathlib.Path
    key: str
    published: PublishedFile


class FilesWriter(SpoolWriter):
    """Writer of `FilesDestination`, whose parameters it has."""

    def __init__(
        self,
        publication: Publication,
        checkpoint: Checkpoint | None,
        *,
        encoding: Encoding,
        layout: Layout,
        target_file_bytes: int | None,
    ) -> None:
        self._publication = publication
        self._encoding = encoding
        self._layout: Layout = layout
        self._target_file_bytes = target_file_bytes
        self._store = publication.store
        super().__init__(publication.folder, publication.options, checkpoint, target=self._store.uri)
        self._rejected_key = keys.rejected(publication.interval)

    def _refuse_rejected(self) -> str:
        self._store.put(self._spool.rejected_file, self._rejected_key)
        return f"Nothing was exported; they are in {self._store.uri_of(self._rejected_key)}."

    def _publish(self, receipt: ExportReceipt) -> ExportReceipt:
        with disk_errors(self._folder):
            encoded = {
                table: list(self._encode(table)) for table in sorted(self._options.tables, key=TABLES.index)
            }
        receipt = replace(
            receipt,
            files=[file.published for files in encoded.values() for file in files],
            manifest=self._store.uri_of(keys.manifest(self._options.interval)),
            rejected_file=self._store.uri_of(self._rejected_key) if receipt.rejected else None,
            arguments=asdict(self._publication.arguments),
        )
        if receipt.rejected:
            self._store.put(self._spool.rejected_file, self._rejected_key)
        # The conversations last: a reader who sees one finds its messages and costs.
        in_order = [file for files in reversed(encoded.values()) for file in files]
        return self._publication.publish(receipt, [(file.local, file.key) for file in in_order])

    def _encode(self, table: Table) -> Iterator[_EncodedFile]:
        """Write the files of a table on local disk: one, or as many as the size of each allows."""
        batches: Iterator[pa.RecordBatch] = filter(len, self._spool.batches(table))
        if self._target_file_bytes is not None:
            batches = _in_pieces(batches)
        following = list(islice(batches, 1))
        for part in count(1):
            taken = (following.pop() for _ in range(len(following)))  # so that nothing here keeps its memory
            yield self._encode_part(table, part, chain(taken, batches))
            following += islice(batches, 1)
            if not following:
                return

    def _encode_part(self, table: Table, part: int, batches: Iterable[pa.RecordBatch]) -> _EncodedFile:
        """Write one file of a table, and count the rows in it."""
        encoding = self._encoding
        key = keys.data(table.name, self._options.interval, encoding.suffix, layout=self._layout, part=part)
        name = table.name if part == 1 else f"{table.name}_{part:04}"
        local = self._folder / f"{name}{encoding.suffix}"
        rows = 0

        def counted() -> Iterator[pa.RecordBatch]:
            nonlocal rows
            for batch in batches:
                rows += len(batch)
                yield batch

        encoding.write(local, table.schema, counted(), target_bytes=self._target_file_bytes)
        found = encoding.count(local)
        if found != rows:
            raise VoiceOSExportError(
                f"The encoded file of {table.name} holds {found} rows instead of {rows}."
            )
        with local.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        published = PublishedFile(
            table=table.name,
            path=self._store.uri_of(key),
            rows=rows,
            bytes=local.stat().st_size,
            sha256=digest,
            schema_fingerprint=fingerprint(table.schema),
        )
        return _EncodedFile(local, key, published)
