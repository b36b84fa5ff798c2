"""How does an export become visible in object storage: all of it, or nothing?"""

from __future__ import annotations

import hashlib
import json
import logging
import pathlib
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import msgspec
import pyarrow as pa

from voiceos_provider.api.models import Rejected
from voiceos_provider.exceptions import VoiceOSExportError, VoiceOSTargetError
from voiceos_provider.interval import Interval
from voiceos_provider.records.columns import fingerprint
from voiceos_provider.targets import layout
from voiceos_provider.targets.formats import Encoding
from voiceos_provider.targets.receipt import ExportReceipt, PublishedFile, Reading
from voiceos_provider.targets.spool import Spool
from voiceos_provider.targets.store import Store, StorePath

log = logging.getLogger(__name__)

_TABLE = "conversations"
_TRIES = 8


class ObjectStorageTarget:
    """One file per interval below a path, with a manifest.

    :param path: the export's folder: an `ObjectStoragePath` or a `pathlib.Path`
    :param interval: what the files are named for
    :param encoding: the format of the data files
    :param max_rejected: conversations that may be set aside before the export fails
    """

    def __init__(
        self, path: StorePath | pathlib.Path, *, interval: Interval, encoding: Encoding, max_rejected: int = 0
    ) -> None:
        self._store = Store(path)
        self._interval = interval
        self._encoding = encoding
        self._max_rejected = max_rejected
        self.uri = self._store.uri

    @contextmanager
    def open(self, schema: pa.Schema) -> Iterator[ObjectStorageWriter]:
        """A writer whose rows nobody sees before it publishes them; leaving without that leaves nothing.

        :raises VoiceOSTargetError: at once, if the store cannot be read
        """
        self._store.read(layout.manifest(self._interval))
        with tempfile.TemporaryDirectory(prefix="voiceos-export-") as folder:
            yield ObjectStorageWriter(
                self._store,
                Path(folder),
                schema,
                interval=self._interval,
                encoding=self._encoding,
                max_rejected=self._max_rejected,
            )


class ObjectStorageWriter:
    """Takes rows, then publishes them. Made by `ObjectStorageTarget.open`."""

    def __init__(
        self,
        store: Store,
        folder: Path,
        schema: pa.Schema,
        *,
        interval: Interval,
        encoding: Encoding,
        max_rejected: int,
    ) -> None:
        self._store = store
        self._folder = folder
        self._schema = schema
        self._interval = interval
        self._encoding = encoding
        self._max_rejected = max_rejected
        with self._blaming_the_disk():
            self._spool = Spool(folder / "spool.arrow", schema)
        self._rejected_file = folder / "rejected.jsonl"
        self._rejected = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Take rows. Of those with the same id, the last one counts."""
        with self._blaming_the_disk():
            self._spool.append(batch)

    def reject(self, rejected: Sequence[Rejected]) -> None:
        """Set conversations aside.

        :raises VoiceOSExportError: once there are more than allowed; they are then published, and nothing else
        """
        if not rejected:
            return
        with self._blaming_the_disk(), self._rejected_file.open("ab") as file:
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
                f"max_rejected={self._max_rejected}. Nothing was exported; they are in {self._store.uri_of(key)}."
            )

    def publish(self, reading: Reading) -> ExportReceipt:
        """Make the rows visible: the data file first, then the manifest that describes it.

        :raises VoiceOSExportError: if the numbers do not add up
        :raises VoiceOSTargetError: if the store refuses, or does not hold what was sent
        """
        with self._blaming_the_disk():
            duplicates = self._spool.seal()
        exported = len(self._spool) - duplicates
        if reading.listed != exported + duplicates + reading.filtered + reading.rejected:
            raise VoiceOSExportError(
                f"{reading.listed} conversations were listed, but {exported} exported, {duplicates} duplicates, "
                f"{reading.filtered} filtered and {reading.rejected} rejected do not add up to them."
            )
        with self._blaming_the_disk():
            local, file = self._encode(exported)
        receipt = ExportReceipt(
            **asdict(reading),
            target=self._store.uri,
            exported=exported,
            duplicates=duplicates,
            files=[file],
            schema_fingerprint=fingerprint(self._schema),
            manifest=self._store.uri_of(layout.manifest(self._interval)),
            rejected_file=self._store.uri_of(layout.rejected(self._interval)) if reading.rejected else None,
        )
        if reading.rejected:
            self._store.put(self._rejected_file, layout.rejected(self._interval))
        self._publish_together(local, receipt)
        self._tidy(receipt)
        return receipt

    @contextmanager
    def _blaming_the_disk(self) -> Iterator[None]:
        """Say where rows wait on this machine, if it cannot hold them."""
        try:
            yield
        except OSError as error:
            reason = " ".join(str(error).split())
            raise VoiceOSTargetError(
                f"cannot keep rows in {self._folder}: {reason}. TMPDIR names another folder."
            ) from error

    @property
    def _data_key(self) -> str:
        return layout.data(_TABLE, self._interval, self._encoding.suffix)

    def _encode(self, rows: int) -> tuple[Path, PublishedFile]:
        local = self._folder / f"{_TABLE}{self._encoding.suffix}"
        self._encoding.write(local, self._schema, self._spool.batches())
        found = self._encoding.count(local)
        if found != rows:
            raise VoiceOSExportError(f"The encoded file holds {found} rows instead of {rows}.")
        with local.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        return local, PublishedFile(
            table=_TABLE,
            path=self._store.uri_of(self._data_key),
            rows=rows,
            bytes=local.stat().st_size,
            sha256=digest,
        )

    def _publish_together(self, local: Path, receipt: ExportReceipt) -> None:
        """Put data and manifest, and look whether both still stand.

        Another run of the same interval may publish at the same time. Whoever writes last looks last, so what
        stays is one run's data with that run's manifest.
        """
        key = layout.manifest(self._interval)
        manifest = self._folder / "manifest.json"
        manifest.write_text(json.dumps(receipt.as_dict(), indent=2) + "\n")
        for _ in range(_TRIES):
            self._store.put(local, self._data_key)
            self._store.put(manifest, key)
            if self._store.holds(local, self._data_key) and self._store.read(key) == manifest.read_bytes():
                return
            log.warning("Another run is publishing %s at the same time; publishing again.", self._interval)
            time.sleep(random.uniform(0, 0.5))
        raise VoiceOSTargetError(
            f"{self._store.uri_of(self._data_key)} does not hold what was sent: another run of this interval "
            "keeps writing it, or the store is not consistent. Clear one of the runs."
        )

    def _tidy(self, receipt: ExportReceipt) -> None:
        """Remove what other exports of this interval left under another name: another format, old rejects.

        The earlier manifest is not asked: a run that was killed before its own has left a file that none names.
        """
        if not receipt.rejected:
            self._store.remove(layout.rejected(self._interval))
        for suffix in Encoding.suffixes():
            if suffix != self._encoding.suffix:
                self._store.remove(layout.data(_TABLE, self._interval, suffix))
