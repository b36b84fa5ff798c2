"""Files below a path: one for each table and interval, published once all rows are written."""

from __future__ import annotations

import hashlib
import logging
import pathlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import datetime, timedelta

import pyarrow as pa

from voiceos_provider.exceptions import VoiceOSExportError
from voiceos_provider.interval import Interval
from voiceos_provider.load.checkpoint import Checkpoint
from voiceos_provider.load.files import layout
from voiceos_provider.load.files.formats import Encoding
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


class FilesDestination:
    """One file per table and interval below a path, with a manifest.

    :param path: the export's folder: an `ObjectStoragePath` or a `pathlib.Path`
    :param encoding: the format of the data files
    :param replace_existing: replace the files of an interval that was written with other arguments; by default the
        export fails before it reads anything
    """

    def __init__(
        self,
        path: StorePath | pathlib.Path,
        *,
        encoding: Encoding,
        replace_existing: bool = False,
    ) -> None:
        self._store = Store(path)
        self._manifests = Manifests(self._store)
        self._encoding = encoding
        self._replace_existing = replace_existing
        self.uri = self._store.uri

    def find_pending(self, interval: Interval, max_age: timedelta) -> PendingConversations:
        """Return the conversations of earlier intervals to request again, by the manifests below the path.

        :param interval: the interval of the export
        :param max_age: how long after the end of its interval a conversation is requested
        :raises VoiceOSDestinationError: if the manifests cannot be read
        """
        return find_pending(self._manifests.outcomes(interval, max_age), interval, max_age)

    @contextmanager
    def open(
        self, options: ExportOptions, workdir: WorkDir, *, exported_at: datetime
    ) -> Iterator[FilesWriter]:
        """Yield a writer whose rows become visible when it publishes them, not before; see `Publication`.

        :param options: what is exported
        :param workdir: where rows wait until all of them are written
        :param exported_at: when the export began
        :raises VoiceOSDestinationError: at once, if the store cannot be read
        :raises VoiceOSExportError: at once, if the interval was written with other arguments
        """
        interval = options.interval
        arguments = WriteArguments.of(options.statuses, options.tables, options.redaction, self._encoding)
        manifest = self._manifests.read(interval)
        if manifest is None:
            self._store.require_place()
        elif not self._replace_existing:
            self._manifests.require_same_arguments(interval, manifest, arguments)
        elif differences := arguments.differences(manifest.get("arguments")):
            log.warning("Replacing the files of %s: %s.", interval, "; ".join(differences))
        self._manifests.warn_of_overlaps(interval)
        with workdir.folder() as folder:
            publication = Publication(
                store=self._store,
                folder=folder,
                options=options,
                encoding=self._encoding,
                arguments=arguments,
                replace_existing=self._replace_existing,
            )
            yield FilesWriter(publication, workdir.checkpoint)


class FilesWriter(SpoolWriter):
    """Writer of `FilesDestination`."""

    def __init__(self, publication: Publication, checkpoint: Checkpoint | None) -> None:
        self._publication = publication
        self._store = publication.store
        super().__init__(publication.folder, publication.options, checkpoint, target=self._store.uri)
        self._rejected_key = layout.rejected(publication.interval)

    def _refuse_rejected(self) -> str:
        self._store.put(self._spool.rejected_file, self._rejected_key)
        return f"Nothing was exported; they are in {self._store.uri_of(self._rejected_key)}."

    def _publish(self, receipt: ExportReceipt) -> ExportReceipt:
        with disk_errors(self._folder):
            files = [self._encode(table) for table in sorted(self._options.tables, key=TABLES.index)]
        receipt = replace(
            receipt,
            files=files,
            manifest=self._store.uri_of(layout.manifest(self._options.interval)),
            rejected_file=self._store.uri_of(self._rejected_key) if receipt.rejected else None,
            arguments=asdict(self._publication.arguments),
        )
        if receipt.rejected:
            self._store.put(self._spool.rejected_file, self._rejected_key)
        return self._publication.publish(receipt)

    def _encode(self, table: Table) -> PublishedFile:
        """Write a table's file on local disk, and count the rows in it."""
        local, key = self._publication.files[table]
        rows = 0

        def counted() -> Iterator[pa.RecordBatch]:
            nonlocal rows
            for batch in self._spool.batches(table):
                rows += len(batch)
                yield batch

        encoding = self._publication.encoding
        encoding.write(local, table.schema, counted())
        found = encoding.count(local)
        if found != rows:
            raise VoiceOSExportError(
                f"The encoded file of {table.name} holds {found} rows instead of {rows}."
            )
        with local.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        return PublishedFile(
            table=table.name,
            path=self._store.uri_of(key),
            rows=rows,
            bytes=local.stat().st_size,
            sha256=digest,
            schema_fingerprint=fingerprint(table.schema),
        )
