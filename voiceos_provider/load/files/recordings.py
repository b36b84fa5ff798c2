"""Recordings of one interval below a path: audio files, and a table that lists them.

    recordings/20261101T000000Z_20261102T000000Z/<conversation id>.wav                         the audio
    conversation_recordings/conversation_recordings_20261101T000000Z_20261102T000000Z.parquet  the manifest

A file is put in one step and verified, so it is complete as soon as it exists. The manifest follows when every
conversation of a run has a row. A later run adds to it: what an earlier one has stored stays, whatever its filters.
"""

from __future__ import annotations

import hashlib
import io
import logging
import pathlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from voiceos_provider.client.audio_types import SUFFIXES
from voiceos_provider.client.recordings import Recording
from voiceos_provider.exceptions import VoiceOSDestinationError
from voiceos_provider.interval import Interval
from voiceos_provider.load.files.formats import Encoding
from voiceos_provider.load.files.store import Store, StorePath
from voiceos_provider.transform.schema import COUNT, INSTANT, TEXT, Column, Table

log = logging.getLogger(__name__)

Reason = Literal["not_ended", "no_recording", "recording_gone", "too_large", "failed"]

RECORDINGS = Table(
    "conversation_recordings",
    "One row per conversation whose recording was requested, or could not be.",
    ("conversation_id",),
    (
        Column("conversation_id", TEXT, "The conversation.", nullable=False),
        Column("path", TEXT, "Where the audio is; null if there is none."),
        Column("bytes", COUNT, "Its size."),
        Column("sha256", TEXT, "Its checksum, in hexadecimal."),
        Column("content_type", TEXT, "Its media type, such as `audio/wav`."),
        Column("fetched_at", INSTANT, "When it was downloaded, or found complete after an interrupted run."),
        Column("reason", TEXT, "Why there is no audio; null if there is."),
    ),
)
"""The manifest. It is not one of `transform.TABLES`, which every export can write."""

AUDIO = "recordings"
"""The folder of the audio."""

_UNKNOWN_SUFFIX = ".audio"
_LONGEST_NAME = 200
_BATCH = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingRow:
    """A row of the manifest; its fields are the columns."""

    conversation_id: str
    path: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    content_type: str | None = None
    fetched_at: datetime | None = None
    reason: Reason | None = None


class RecordingFiles:
    """The recordings of one interval. Its methods may be called by several threads.

    :param path: the folder: an `ObjectStoragePath` or a `pathlib.Path`
    :param interval: the interval of creation time
    """

    def __init__(self, path: StorePath | pathlib.Path, interval: Interval) -> None:
        self._store = Store(path)
        self._folder = f"{AUDIO}/{interval.label}"
        self._manifest = f"{RECORDINGS.name}/{RECORDINGS.name}_{interval.label}.parquet"
        self._names: frozenset[str] = frozenset()
        self._rows: Mapping[str, RecordingRow] = {}
        self.uri = self._store.uri
        self.manifest_uri = self._store.uri_of(self._manifest)

    def open(self) -> None:
        """Find out what earlier runs have stored.

        :raises VoiceOSDestinationError: if the store cannot be read or written
        """
        self._store.require_place()
        self._names = frozenset(self._store.list_versions(self._folder))
        content = self._store.read(self._manifest)
        try:
            rows = pq.read_table(io.BytesIO(content)).to_pylist() if content else []
            self._rows = {row["conversation_id"]: RecordingRow(**row) for row in rows}
        except (pa.ArrowException, TypeError, KeyError):
            log.warning("%s is not readable; it is written again.", self.manifest_uri)

    def find(self, conversation_id: str) -> RecordingRow | None:
        """Return the row of a recording that is stored and undamaged; reads the whole file.

        The checksum is compared with the manifest. A file that it does not list is of an interrupted run, and complete.
        """
        row = self._rows.get(conversation_id)
        for key in self._keys(conversation_id):
            found = self._store.digest(key)
            if found is None:
                continue
            if row and row.path == self._store.uri_of(key):
                if found == (row.bytes, row.sha256):
                    return row
                log.warning("%s has changed; it is downloaded again.", row.path)
            elif content_type := next((t for t, suffix in SUFFIXES.items() if key.endswith(suffix)), None):
                return self._row(conversation_id, key, Recording(*found, content_type))
        return None

    def put(self, conversation_id: str, local: pathlib.Path, recording: Recording) -> RecordingRow:
        """Publish downloaded audio, and return its row.

        :raises VoiceOSDestinationError: if the store refuses, or does not hold what was sent
        """
        suffix = SUFFIXES.get(recording.content_type, _UNKNOWN_SUFFIX)
        key = f"{self._folder}/{name_of(conversation_id)}{suffix}"
        self._put(local, key)
        for other in self._keys(conversation_id):
            if other != key:
                self._store.remove(other)
        return self._row(conversation_id, key, recording)

    def publish(self, rows: Mapping[str, RecordingRow], folder: pathlib.Path) -> None:
        """Replace the manifest by one that also has these rows.

        :param folder: the work directory
        """
        listed = [asdict(row) for row in {**self._rows, **rows}.values()]
        batches = (
            pa.RecordBatch.from_pylist(listed[at : at + _BATCH], RECORDINGS.schema)
            for at in range(0, len(listed), _BATCH)
        )
        local = folder / "recordings.parquet"
        Encoding.choose("parquet", None).write(local, RECORDINGS.schema, batches)
        self._put(local, self._manifest)

    def _put(self, local: pathlib.Path, key: str) -> None:
        self._store.put(local, key)
        if not self._store.has_content_of(local, key):
            raise VoiceOSDestinationError(f"{self._store.uri_of(key)} does not hold what was sent.")

    def _keys(self, conversation_id: str) -> list[str]:
        """Return the keys of the files that a recording had when this run began."""
        names = (name_of(conversation_id) + suffix for suffix in (*SUFFIXES.values(), _UNKNOWN_SUFFIX))
        return [f"{self._folder}/{name}" for name in names if name in self._names]

    def _row(self, conversation_id: str, key: str, recording: Recording) -> RecordingRow:
        return RecordingRow(
            conversation_id=conversation_id,
            path=self._store.uri_of(key),
            bytes=recording.bytes,
            sha256=recording.sha256,
            content_type=recording.content_type,
            fetched_at=datetime.now(UTC),
        )


def name_of(conversation_id: str) -> str:
    """Return the name of a file without its suffix; an id may hold anything."""
    name = quote(conversation_id, safe="", errors="replace")
    return name if len(name) <= _LONGEST_NAME else hashlib.sha256(name.encode()).hexdigest()
