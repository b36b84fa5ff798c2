"""Publication of one interval's files: data and manifest come from a single run, even with concurrent writers."""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from voiceos_provider.exceptions import VoiceOSDestinationError
from voiceos_provider.load.files import layout
from voiceos_provider.load.files.formats import Encoding
from voiceos_provider.load.files.manifests import Manifests, WriteArguments
from voiceos_provider.load.files.store import Store
from voiceos_provider.load.receipt import ExportReceipt
from voiceos_provider.load.workdir import disk_errors
from voiceos_provider.options import ExportOptions
from voiceos_provider.transform import TABLES

log = logging.getLogger(__name__)

_ATTEMPTS = 8


@dataclass(kw_only=True)
class Publication:
    """The files of one interval, made visible together.

    If a table has several files, a reader who lists the folder can see some of them before the others. One who waits
    for the manifest, which names all of them, does not.

    A first export that fails publishes no data file. A repeated export replaces the files one by one; if it fails in
    between, new and old files of the interval remain side by side until the next run of it, and the old manifest with
    them. `_exported_at` shows from which run each row comes. No store replaces several files at once.

    Another run of the same interval may publish at the same time. The one that writes or removes last also verifies
    last, so the result is one run's data with that run's manifest. A run removes other files only after its own are
    complete: two runs in different formats could otherwise remove each other's, again and again.

    :param replace_existing: replace files that were written with other arguments
    """

    store: Store
    folder: Path
    options: ExportOptions
    arguments: WriteArguments
    replace_existing: bool

    def __post_init__(self) -> None:
        self.interval = self.options.interval
        self._files: Sequence[tuple[Path, str]] = ()
        self._manifests = Manifests(self.store)
        self._manifest = self.folder / "manifest.json"
        self._manifest_key = layout.manifest(self.interval)

    def publish(self, receipt: ExportReceipt, files: Sequence[tuple[Path, str]]) -> ExportReceipt:
        """Publish the local files and the manifest, and remove other files of the interval.

        :param files: local files with their keys, in the order of publication
        :return: the receipt as published, with the removed files
        :raises VoiceOSExportError: if another run has published the interval with other arguments meanwhile
        :raises VoiceOSDestinationError: if the store refuses, or does not hold what was sent
        """
        self._files = files
        for attempt in range(_ATTEMPTS):
            receipt = self._put_files(receipt, again=attempt > 0)
            if self._is_complete():
                others = self._other_files(receipt)
                receipt = self._remove(others, receipt)
                if not others or self._is_complete():
                    return receipt
            log.warning("Another run publishes %s at the same time; publishing again.", self.interval)
            time.sleep(random.uniform(0, 0.5))
        raise VoiceOSDestinationError(
            f"Clear one of the runs: {self.store.uri} does not hold what was sent. Another run of the interval "
            f"{self.interval} keeps writing it, or the store is not consistent."
        )

    def _put_files(self, receipt: ExportReceipt, *, again: bool) -> ExportReceipt:
        """Put the data files and then the manifest; return its receipt, which names the files to be removed."""
        with self._undone_on_failure():
            existing = self._manifests.read(self.interval)
            # After the first attempt, a manifest without arguments is this run's own, which the store has not kept.
            is_own = again and "arguments" not in (existing or {})
            if not self.replace_existing and not is_own:
                self._manifests.require_same_arguments(self.interval, existing, self.arguments)
            receipt = self._with_removed(receipt, self._other_files(receipt, named=_named(existing)))
            self._write_manifest(receipt)
            for local, key in self._files:
                self.store.put(local, key)
            self.store.put(self._manifest, self._manifest_key)
        return receipt

    @contextmanager
    def _undone_on_failure(self) -> Iterator[None]:
        """Remove the files published so far if one fails; beside an earlier export, their rows would be duplicates.

        A file that the manifest names stays: it is newer than the one it has replaced, which is gone.
        """
        try:
            yield
        except BaseException:
            with suppress(VoiceOSDestinationError):
                named = _named(self._manifests.read(self.interval))
                for local, key in self._files:
                    if self.store.uri_of(key) not in named and self.store.has_content_of(local, key):
                        self.store.remove(key)
            raise

    def _is_complete(self) -> bool:
        """Return whether the store holds this run's files and its manifest."""
        return all(self.store.has_content_of(local, key) for local, key in self._files) and self._is_ours()

    def _is_ours(self) -> bool:
        return self.store.read(self._manifest_key) == self._manifest.read_bytes()

    def _other_files(self, receipt: ExportReceipt, *, named: set[Any] | None = None) -> list[str]:
        """Return the keys of existing other files of this interval.

        They are in another format or layout, of other tables, beyond the last file of a table, or old rejects.

        :param named: only those at these addresses; None for all. A killed run leaves files that no manifest names
        """
        current = {key for _, key in self._files}
        rejected = layout.rejected(self.interval)
        if receipt.rejected:
            current.add(rejected)
        prefixes = [
            layout.data_prefix(table.name, self.interval, each) for table in TABLES for each in layout.LAYOUTS
        ]
        found = self.store.keys_with_prefixes([*prefixes, rejected])
        keys = [key for key in found.pop(rejected) if key == rejected]
        for prefix, existing in found.items():
            keys += [key for key in existing if layout.is_data(key, prefix, Encoding.suffixes())]
        return [
            key for key in keys if key not in current and (named is None or self.store.uri_of(key) in named)
        ]

    def _with_removed(self, receipt: ExportReceipt, keys: Sequence[str]) -> ExportReceipt:
        uris = {self.store.uri_of(key) for key in keys}
        return replace(receipt, removed_files=sorted(uris.union(receipt.removed_files)))

    def _remove(self, keys: Sequence[str], receipt: ExportReceipt) -> ExportReceipt:
        """Remove files while the manifest is this run's; return the receipt, in which the manifest names them."""
        for key in keys:
            if not self._is_ours():
                return receipt  # the others may belong to the run that has replaced the manifest
            self.store.remove(key)
        removed = self._with_removed(receipt, keys)
        if removed == receipt or not self._is_ours():
            return receipt
        self._write_manifest(removed)
        self.store.put(self._manifest, self._manifest_key)
        return removed

    def _write_manifest(self, receipt: ExportReceipt) -> None:
        with disk_errors(self.folder):
            self._manifest.write_text(json.dumps(receipt.as_dict(), indent=2) + "\n")


def _named(manifest: Mapping[str, Any] | None) -> set[Any]:
    """Return the addresses that a manifest names."""
    manifest = manifest or {}
    files = manifest.get("files")
    paths = (
        [file.get("path") for file in files if isinstance(file, Mapping)] if isinstance(files, list) else []
    )
    return {*paths, manifest.get("rejected_file")}
