"""Erasure of conversations from the files below a path: data files, recordings, rejected records and manifests.

Files are replaced one by one, each in one step. The manifest of an interval comes first, with the checksums of the
files that follow. Conversations come last, because only they refer to their configuration: until their rows are gone,
another run finds everything that a killed one has left.
"""

from __future__ import annotations

import hashlib
import json
import logging
import pathlib
import random
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from voiceos_provider.exceptions import VoiceOSDestinationError, VoiceOSExportError
from voiceos_provider.interval import Interval
from voiceos_provider.load.erasure import OWNERS, Erased, is_named
from voiceos_provider.load.files import layout
from voiceos_provider.load.files.formats import Encoding
from voiceos_provider.load.files.manifests import Manifests
from voiceos_provider.load.files.recordings import AUDIO, RECORDINGS, name_of
from voiceos_provider.load.files.rewriting import copy_without, read_values
from voiceos_provider.load.files.store import Store, StorePath
from voiceos_provider.load.plan import REJECTED
from voiceos_provider.load.receipt import LISTS_OF_IDS
from voiceos_provider.load.workdir import WorkDir, disk_error, disk_errors, is_disk_full
from voiceos_provider.transform import TABLES
from voiceos_provider.transform.schema import AGENT_CONFIGS, CONVERSATIONS

log = logging.getLogger(__name__)

_ATTEMPTS = 8
_PAUSE = 0.5
_IN_ORDER = (RECORDINGS, *reversed(TABLES))
_OWNERS = {**OWNERS, RECORDINGS.name: RECORDINGS.key[0]}


@dataclass(frozen=True, slots=True)
class _DataFile:
    """A data file of one interval."""

    key: str
    table: str
    suffix: str


@dataclass(frozen=True, slots=True)
class _Replacement:
    """A file without the rows of erased conversations, on local disk.

    :param local: the copy; None if the file is to be removed
    :param removed: rows that it lacks
    :param published: what the manifest says of it
    """

    key: str
    table: str
    local: Path | None
    removed: int = 0
    published: Mapping[str, Any] = field(default_factory=dict)


class ErasableFiles:
    """The files of all exports below a path, in every format and layout.

    :param path: the export's folder: an `ObjectStoragePath` or a `pathlib.Path`
    """

    def __init__(self, path: StorePath | pathlib.Path) -> None:
        self._store = Store(path)
        self.uri = self._store.uri

    def erase(self, ids: Collection[str]) -> Erased:
        """Remove conversations from all files, and from the manifests.

        :raises VoiceOSDestinationError: if the store refuses, or an export of an interval publishes at the same time;
            what is removed until then stays removed
        """
        ids, erased = frozenset(ids), Erased()
        self._store.sweep()
        listed = self._intervals()
        erased.exists = bool(listed) or any(self._store.keys_below(AUDIO))
        self._remove_audio(ids, erased)
        with WorkDir().folder() as folder:
            changed = listed
            for _ in range(_ATTEMPTS):
                for interval, files in changed.items():
                    _IntervalErasure(self._store, interval, files, ids, erased, folder).run()
                # An export of an interval may have published files with other names meanwhile.
                found = self._intervals()
                changed = {
                    interval: files for interval, files in found.items() if listed.get(interval) != files
                }
                listed = found
                if not changed:
                    break
            else:
                raise VoiceOSDestinationError(
                    f"Exports keep publishing to {self.uri}. Erase again when none is running."
                )
        Manifests(self._store).forget(ids)
        return erased

    def _intervals(self) -> dict[Interval, list[_DataFile]]:
        """Return the data files of each interval. Earlier ones come first: a later manifest resolves their ids."""
        found: dict[Interval, list[_DataFile]] = {}
        for folder in (layout.MANIFESTS, layout.REJECTED):
            for key in self._store.keys_below(folder):
                if interval := layout.interval_of(key.rpartition("/")[2].partition(".json")[0]):
                    found.setdefault(interval, [])
        for table in _IN_ORDER:
            for key in self._store.keys_below(table.name):
                if described := layout.interval_of_data(key, Encoding.suffixes()):
                    interval, suffix = described
                    found.setdefault(interval, []).append(_DataFile(key, table.name, suffix))
        return dict(sorted(found.items(), key=lambda item: (item[0].end, item[0].start)))

    def _remove_audio(self, ids: frozenset[str], erased: Erased) -> None:
        names = {name_of(id_): id_ for id_ in ids}
        for key in self._store.keys_below(AUDIO):
            id_ = names.get(key.rpartition("/")[2].rpartition(".")[0])
            if id_ is not None:
                self._store.remove(key)
                erased.found.add(id_)
                erased.tables[AUDIO].files_deleted += 1


@dataclass(slots=True)
class _IntervalErasure:
    """Erasure from the files of one interval.

    :param files: its data files, in the order in which they are replaced
    :param erased: counts what is removed
    :param folder: a work directory
    """

    store: Store
    interval: Interval
    files: list[_DataFile]
    ids: frozenset[str]
    erased: Erased
    folder: Path

    def run(self) -> None:
        """Replace the files and the manifest, again if an export of the interval publishes meanwhile."""
        key = layout.manifest(self.interval)
        for attempt in range(_ATTEMPTS):
            before = self.store.read(key)
            if attempt and not self._is_consistent(before):
                time.sleep(random.uniform(0, _PAUSE))
                continue
            replacements = list(self._replacements())
            after = self._rewritten(before, replacements)
            if not replacements and after == before:
                return
            if self.store.read(key) == before and self._publish(before, after, replacements):
                return
            log.warning("An export publishes %s at the same time; erasing again.", self.interval)
        raise VoiceOSDestinationError(
            f"Export {self.interval} again, and then erase again: an export has published it to {self.store.uri} at "
            "the same time."
        )

    def _publish(self, before: bytes | None, after: bytes | None, replacements: list[_Replacement]) -> bool:
        """Put the manifest and the files; return False as soon as another run has written the manifest."""
        key = layout.manifest(self.interval)
        if after is not None and after != before:
            manifest = self.folder / "manifest.json"
            with disk_errors(self.folder):
                manifest.write_bytes(after)
            self.store.put(manifest, key)
            self.erased.manifests_rewritten += 1
        for each in replacements:
            if self.store.read(key) != after:
                return False
            table = self.erased.tables[each.table]
            if each.local is None:
                self.store.remove(each.key)
                table.files_deleted += 1
            else:
                self.store.put(each.local, each.key)
                table.files_rewritten += 1
            table.rows += each.removed
        put = [(each.local, each.key) for each in replacements if each.local]
        return (
            all(self.store.has_content_of(local, key) for local, key in put) and self.store.read(key) == after
        )

    def _replacements(self) -> Iterator[_Replacement]:
        """Write the files anew that hold rows of the conversations."""
        rejected = self._without_rejected()
        if rejected is not None:
            yield rejected
        unused = self._unused_configurations()
        for number, file in enumerate(self.files):
            if file.table == AGENT_CONFIGS.name:
                column, removed = AGENT_CONFIGS.key[0], unused
            else:
                column, removed = _OWNERS[file.table], self.ids
            with self.store.open(file.key) as source:
                found = [value for (value,) in read_values(source, file.suffix, [column]) if value in removed]
            if not found:
                continue
            if removed is self.ids:
                self.erased.found.update(filter(None, found))
            copy = self.folder / f"{number}{file.suffix}"
            with self.store.open(file.key) as source:
                try:
                    rows = copy_without(source, file.suffix, copy, column, removed.__contains__)
                except OSError as error:
                    if is_disk_full(error):
                        raise disk_error(error, self.folder) from error
                    raise
            with copy.open("rb") as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
            published = {"rows": rows, "bytes": copy.stat().st_size, "sha256": digest}
            yield _Replacement(file.key, file.table, copy, len(found), published)

    def _unused_configurations(self) -> frozenset[str]:
        """Return the configurations to which only erased conversations of the interval refer."""
        of_erased, of_others = set[str | None](), set[str | None]()
        for file in self.files:
            if file.table == CONVERSATIONS.name:
                with self.store.open(file.key) as source:
                    for id_, hash_ in read_values(source, file.suffix, ["id", AGENT_CONFIGS.key[0]]):
                        (of_erased if id_ in self.ids else of_others).add(hash_)
        return frozenset(hash_ for hash_ in of_erased - of_others if hash_ is not None)

    def _without_rejected(self) -> _Replacement | None:
        """Return the rejected records without those that name one of the conversations; None if none does."""
        key = layout.rejected(self.interval)
        lines = (self.store.read(key) or b"").splitlines(keepends=True)
        kept = []
        for line in lines:
            named = {id_ for id_ in self.ids if is_named(id_, line.decode(errors="replace"))}
            self.erased.found |= named
            if not named:
                kept.append(line)
        if len(kept) == len(lines):
            return None
        local = self.folder / "rejected.jsonl"
        with disk_errors(self.folder):
            local.write_bytes(b"".join(kept))
        return _Replacement(key, REJECTED.name, local if kept else None, len(lines) - len(kept))

    def _rewritten(self, before: bytes | None, replacements: list[_Replacement]) -> bytes | None:
        """Return the manifest without the ids, and with what the replaced files hold; the counters stay."""
        if before is None:
            return None
        manifest = self._parsed(before)
        unchanged = json.dumps(manifest)
        for name in LISTS_OF_IDS:
            listed = manifest.get(name) or []
            self.erased.found |= self.ids.intersection(listed)
            if not self.ids.isdisjoint(listed):
                manifest[name] = [id_ for id_ in listed if id_ not in self.ids]
        files = manifest.get("files") or []
        for each in replacements:
            for file in files:
                if file["path"].endswith(f"/{each.key}"):
                    file.update(each.published)
            if each.local is None and each.key == layout.rejected(self.interval):
                manifest["rejected_file"] = None
        rows = [file.get("rows", 0) for file in files if file["table"] == CONVERSATIONS.name]
        exported = manifest.get("exported") or 0
        if rows and sum(rows) < exported:
            manifest["erased"] = exported - sum(rows)
        return (
            before if json.dumps(manifest) == unchanged else (json.dumps(manifest, indent=2) + "\n").encode()
        )

    def _is_consistent(self, manifest: bytes | None) -> bool:
        """Return whether the files are those of the manifest, as another run has left them."""
        if manifest is None:
            return True
        keys = {file.key for file in self.files}
        named = [
            (key, (file["bytes"], file["sha256"]))
            for file in self._parsed(manifest).get("files") or []
            for key in keys
            if file["path"].endswith(f"/{key}")
        ]
        return all(self.store.digest(key) == content for key, content in named)

    def _parsed(self, content: bytes) -> dict[str, Any]:
        with suppress(ValueError):
            manifest: Any = json.loads(content)
            if isinstance(manifest, dict) and all(map(_is_described, manifest.get("files") or [])):
                return manifest
        raise VoiceOSExportError(
            f"{self.store.uri_of(layout.manifest(self.interval))} is not a manifest. Remove it, export its interval "
            "again, and erase again."
        )


def _is_described(file: object) -> bool:
    return isinstance(file, dict) and {"path", "table"} <= file.keys()
