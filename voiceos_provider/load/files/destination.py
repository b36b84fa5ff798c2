"""How does an export become visible in object storage: all of it, or nothing?"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pathlib
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from voiceos_provider.client.pages import Rejected
from voiceos_provider.exceptions import VoiceOSDestinationError, VoiceOSExportError
from voiceos_provider.interval import Interval
from voiceos_provider.load.files import layout
from voiceos_provider.load.files.formats import Encoding
from voiceos_provider.load.files.store import Store, StorePath
from voiceos_provider.load.pending import Account, Due, due, since
from voiceos_provider.load.receipt import ExportReceipt, PublishedFile, Reading
from voiceos_provider.load.spool import Left, Spool
from voiceos_provider.load.workdir import Checkpoint, WorkDir, blaming_the_disk
from voiceos_provider.options import ExportOptions
from voiceos_provider.transform import TABLES, Rows, Table, fingerprint

log = logging.getLogger(__name__)

_TRIES = 8


class FilesDestination:
    """One file per table and interval below a path, with a manifest.

    :param path: the export's folder: an `ObjectStoragePath` or a `pathlib.Path`
    :param encoding: the format of the data files
    """

    def __init__(
        self,
        path: StorePath | pathlib.Path,
        *,
        encoding: Encoding,
    ) -> None:
        self._store = Store(path)
        self._encoding = encoding
        self.uri = self._store.uri

    def due(self, interval: Interval, max_age: timedelta) -> Due:
        """Return the conversations of earlier intervals to ask for again, by the manifests below the path.

        :param interval: the interval of the export
        :param max_age: how long after the end of its interval a conversation is asked for
        :raises VoiceOSDestinationError: if the manifests cannot be read
        """
        names = {name: layout.interval_of(name) for name in self._store.names(layout.manifests())}
        recent = since(interval, max_age)
        found = {name: each for name, each in names.items() if each is not None and each.end > recent}
        return due((self._account(name, each) for name, each in found.items()), interval, max_age)

    def _account(self, name: str, interval: Interval) -> Account:
        try:
            manifest = json.loads(self._store.read(f"{layout.manifests()}/{name}") or b"{}")
        except ValueError:
            raise VoiceOSExportError(
                f"{self._store.uri_of(layout.manifests())}/{name} is no manifest: it is not JSON."
            ) from None
        ids = (frozenset(manifest.get(key) or ()) for key in ("pending_ids", "settled_ids"))
        return Account(interval, *ids)

    @contextmanager
    def open(
        self, options: ExportOptions, workdir: WorkDir, *, exported_at: datetime
    ) -> Iterator[FilesWriter]:
        """Yield a writer whose rows become visible when it publishes them; leaving it before leaves nothing.

        :param options: what is exported
        :param workdir: where rows wait until all of them are written
        :param exported_at: when the export began
        :raises VoiceOSDestinationError: at once, if the store cannot be read
        """
        if self._store.read(layout.manifest(options.interval)) is None:
            self._store.require_place()
        with workdir.folder() as folder:
            yield FilesWriter(
                self._store,
                folder,
                options,
                encoding=self._encoding,
                checkpoint=workdir.checkpoint,
            )


class FilesWriter:
    """Takes rows, then publishes them. Made by `FilesDestination.open`."""

    def __init__(
        self,
        store: Store,
        folder: Path,
        options: ExportOptions,
        *,
        encoding: Encoding,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self._store = store
        self._folder = folder
        # Last of all the conversations: whoever sees one finds what belongs to it.
        self._tables = sorted(options.tables, key=TABLES.index, reverse=True)
        self._interval = options.interval
        self._encoding = encoding
        self._max_rejected = options.max_bad_records
        self._rejected_file = folder / "rejected.jsonl"
        written: Mapping[str, Any] = (
            checkpoint.written if checkpoint else {"spool": None, "rejected": 0, "rejected_bytes": 0}
        )
        self._rejected: int = written["rejected"]
        with blaming_the_disk(self._folder):
            self._spool = Spool(folder, options.tables, written=written["spool"])
            if self._rejected_file.exists():
                os.truncate(self._rejected_file, written["rejected_bytes"])

    def write(self, rows: Mapping[str, Rows]) -> None:
        """Take rows. Of those of one conversation, the last ones count."""
        with blaming_the_disk(self._folder):
            self._spool.append(rows)

    def reject(self, rejected: Sequence[Rejected]) -> None:
        """Set conversations aside.

        :raises VoiceOSExportError: once there are more than allowed; they are then published, and nothing else
        """
        if not rejected:
            return
        with blaming_the_disk(self._folder), self._rejected_file.open("ab") as file:
            for item in rejected:
                file.write(
                    msgspec.json.encode({"reason": item.reason, "conversation": msgspec.Raw(item.raw)})
                    + b"\n"
                )
        self._rejected += len(rejected)
        if self._rejected > self._max_rejected:
            key = layout.rejected(self._interval)
            self._store.put(self._rejected_file, key)
            raise VoiceOSExportError(
                f"{self._rejected:,} conversations cannot be keyed ({rejected[-1].reason}), more than "
                f"max_bad_records={self._max_rejected}. Nothing was exported; they are in {self._store.uri_of(key)}."
            )

    def secure(self) -> dict[str, Any]:
        """Have everything in files that outlive this process; returns what another writer needs to go on with them."""
        with blaming_the_disk(self._folder):
            return {
                "spool": self._spool.secure(),
                "rejected": self._rejected,
                "rejected_bytes": self._rejected_file.stat().st_size if self._rejected_file.exists() else 0,
            }

    def left(self) -> Left:
        """What an earlier writer has left to this one."""
        return self._spool.left()

    def publish(self, reading: Reading) -> ExportReceipt:
        """Make the rows visible: the data files first, then the manifest that describes them.

        :raises VoiceOSExportError: if the numbers do not add up
        :raises VoiceOSDestinationError: if the store refuses, or does not hold what was sent
        """
        with blaming_the_disk(self._folder):
            duplicates = self._spool.seal()
        exported = self._spool.conversations - duplicates
        reading.require_sum(exported, duplicates)
        with blaming_the_disk(self._folder):
            files = [self._encode(table) for table in self._tables]
        receipt = ExportReceipt(
            **asdict(reading),
            target=self._store.uri,
            exported=exported,
            duplicates=duplicates,
            files=list(reversed(files)),
            manifest=self._store.uri_of(layout.manifest(self._interval)),
            rejected_file=self._store.uri_of(layout.rejected(self._interval)) if reading.rejected else None,
        )
        if reading.rejected:
            self._store.put(self._rejected_file, layout.rejected(self._interval))
        self._publish_together(receipt)
        return receipt

    def _data_key(self, table: Table) -> str:
        return layout.data(table.name, self._interval, self._encoding.suffix)

    def _local(self, table: Table) -> Path:
        return self._folder / f"{table.name}{self._encoding.suffix}"

    def _encode(self, table: Table) -> PublishedFile:
        """Write a table's file on local disk, and count again what is in it."""
        local = self._local(table)
        rows = 0

        def counted() -> Iterator[pa.RecordBatch]:
            nonlocal rows
            for batch in self._spool.batches(table):
                rows += len(batch)
                yield batch

        self._encoding.write(local, table.schema, counted())
        found = self._encoding.count(local)
        if found != rows:
            raise VoiceOSExportError(
                f"The encoded file of {table.name} holds {found} rows instead of {rows}."
            )
        with local.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        return PublishedFile(
            table=table.name,
            path=self._store.uri_of(self._data_key(table)),
            rows=rows,
            bytes=local.stat().st_size,
            sha256=digest,
            schema_fingerprint=fingerprint(table.schema),
        )

    def _publish_together(self, receipt: ExportReceipt) -> None:
        """Put data and manifest, remove what else there is of the interval, and look whether all still stands.

        Another run of the same interval may publish at the same time. Whoever writes or removes last looks last, so
        what stays is one run's data with that run's manifest. And nobody removes anything before its own stands
        whole: two runs in different formats could otherwise remove each other's, round after round.
        """
        key = layout.manifest(self._interval)
        manifest = self._folder / "manifest.json"
        with blaming_the_disk(self._folder):
            manifest.write_text(json.dumps(receipt.as_dict(), indent=2) + "\n")
        for _ in range(_TRIES):
            with self._taking_back(key):
                for table in self._tables:
                    self._store.put(self._local(table), self._data_key(table))
                self._store.put(manifest, key)
            if self._stands(manifest, key) and (
                not self._tidy(manifest, key, receipt) or self._stands(manifest, key)
            ):
                return
            log.warning("Another run is publishing %s at the same time; publishing again.", self._interval)
            time.sleep(random.uniform(0, 0.5))
        raise VoiceOSDestinationError(
            f"{self._store.uri} does not hold what was sent: another run of the interval {self._interval} "
            "keeps writing it, or the store is not consistent. Clear one of the runs."
        )

    @contextmanager
    def _taking_back(self, key: str) -> Iterator[None]:
        """If not everything can be put, remove what has been: beside an earlier export it would count a second time.

        What has replaced a file that the manifest names stays: it is newer, and nothing else stands there.
        """
        try:
            yield
        except BaseException:
            with suppress(VoiceOSDestinationError):
                named = (self._store.read(key) or b"").decode(errors="replace")
                for data, local in ((self._data_key(table), self._local(table)) for table in self._tables):
                    if f'{data}"' not in named and self._store.holds(local, data):
                        self._store.remove(data)
            raise

    def _stands(self, manifest: Path, key: str) -> bool:
        return all(
            self._store.holds(self._local(table), self._data_key(table)) for table in self._tables
        ) and self._is_ours(manifest, key)

    def _is_ours(self, manifest: Path, key: str) -> bool:
        return self._store.read(key) == manifest.read_bytes()

    def _tidy(self, manifest: Path, key: str, receipt: ExportReceipt) -> bool:
        """Remove what other exports of this interval left: another format, a table not asked for now, old rejects.

        The earlier manifest is not asked: a run that was killed before its own has left a file that none names.

        :return: whether there was anything; another run may then have removed something, too
        """
        others = [] if receipt.rejected else [layout.rejected(self._interval)]
        current = {self._data_key(table) for table in self._tables}
        others += [
            layout.data(table.name, self._interval, suffix)
            for table in TABLES
            for suffix in Encoding.suffixes()
        ]
        found = [other for other in others if other not in current and self._store.has(other)]
        for other in found:
            if not self._is_ours(manifest, key):
                break  # they may belong to the one whose manifest it is now
            self._store.remove(other)
        return bool(found)
