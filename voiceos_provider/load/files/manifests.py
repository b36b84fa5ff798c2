"""Manifests below an export's path: with which arguments each interval was written, and what is pending."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from voiceos_provider.exceptions import VoiceOSDestinationError, VoiceOSExportError
from voiceos_provider.interval import Interval
from voiceos_provider.load.coverage import Export
from voiceos_provider.load.files import layout
from voiceos_provider.load.files.formats import Encoding
from voiceos_provider.load.files.layout import Layout
from voiceos_provider.load.files.store import Store
from voiceos_provider.load.pending import IntervalOutcome, is_relevant
from voiceos_provider.load.workdir import local_file
from voiceos_provider.transform.schema import TABLES, Table

if TYPE_CHECKING:
    from voiceos_provider.transform import Redaction

log = logging.getLogger(__name__)

_INDEXED = 4_096
_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteArguments:
    """The arguments that decide what the files of an interval hold.

    :param status: the states exported; None for all
    :param tables: the tables written; None for all
    :param redaction: `Redaction.public_choices`
    :param file_format: `parquet`, `jsonl` or `csv`
    :param compression: compression of the files; not compared
    :param layout: `flat` or `hive`
    """

    status: list[str] | None
    tables: list[str] | None
    redaction: dict[str, str]
    file_format: str
    compression: str
    layout: Layout

    @classmethod
    def of(
        cls,
        statuses: Sequence[str],
        tables: Sequence[Table],
        redaction: Redaction,
        encoding: Encoding,
        layout: Layout,
    ) -> WriteArguments:
        """Return the arguments of an export."""
        return cls(
            status=sorted(statuses) or None,
            tables=None
            if set(tables) == set(TABLES)
            else [table.name for table in TABLES if table in tables],
            redaction=redaction.public_choices,
            file_format=encoding.file_format,
            compression=encoding.compression,
            layout=layout,
        )

    def differences(self, written: object) -> list[str]:
        """Return a description of each argument that differs in a manifest."""
        if not isinstance(written, Mapping):
            return ["it does not name them"]
        return [
            f"{name} was {_shown(written.get(name))}, now {_shown(ours)}"
            for name, ours in asdict(self).items()
            if name != "compression" and written.get(name) != ours
        ]


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        value = [f"{name}={choice}" for name, choice in value.items()] or "none"
    return "all" if value is None else ", ".join(map(str, value)) if isinstance(value, list) else str(value)


class _Indexed(msgspec.Struct):
    """An interval's entry in the index.

    :param version: that of its manifest when it was read
    """

    version: str
    pending: list[str]
    resolved: list[str]


class Manifests:
    """The manifests of one path."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(self, interval: Interval) -> dict[str, Any] | None:
        """Return the manifest of an interval, or None if there is none; an unreadable one is empty."""
        content = self._store.read(layout.manifest(interval))
        if content is None:
            return None
        try:
            manifest = json.loads(content)
        except ValueError:
            return {}
        return manifest if isinstance(manifest, dict) else {}

    def require_same_arguments(
        self, interval: Interval, manifest: Mapping[str, Any] | None, arguments: WriteArguments
    ) -> None:
        """Raise if an interval was written with other arguments.

        :param manifest: that of the interval; None if there is none
        :raises VoiceOSExportError: naming each argument
        """
        differences = [] if manifest is None else arguments.differences(manifest.get("arguments"))
        if differences:
            raise VoiceOSExportError(
                "Choose another path, or set replace_existing to replace the files of this interval: "
                f"{self._store.uri_of(layout.manifest(interval))} was written with other arguments "
                f"({'; '.join(differences)}). Nothing was changed."
            )

    def check_others(self, interval: Interval, arguments: WriteArguments) -> None:
        """Compare an interval with the others at this path; sends one listing, and reads one manifest.

        Intervals that share creation time with this one are logged.

        :raises VoiceOSExportError: if the others were written in another layout
        """
        try:
            found = [layout.interval_of(name) for name in sorted(self._store.list_versions(layout.MANIFESTS))]
        except VoiceOSDestinationError as error:
            log.info("Cannot look for other intervals: %s", error)
            return
        others = [other for other in found if other and other != interval]
        if others:
            self._require_same_layout(others[-1], arguments)
        self._warn_of_overlaps(interval, [other for other in others if _overlap(other, interval)])

    def _require_same_layout(self, other: Interval, arguments: WriteArguments) -> None:
        written = (self.read(other) or {}).get("arguments")
        if isinstance(written, Mapping) and written.get("layout") != arguments.layout:
            raise VoiceOSExportError(
                f"Choose another path: the layout of {self._store.uri} is {_shown(written.get('layout'))}, and readers "
                f"would not find files of the layout {arguments.layout} among the others. Nothing was changed."
            )

    def _warn_of_overlaps(self, interval: Interval, others: Sequence[Interval]) -> None:
        if others:
            log.warning(
                "%d other intervals at %s overlap with %s: %s%s. Readers find their conversations more than once; "
                "use one path for each interval length.",
                len(others),
                self._store.uri,
                interval,
                ", ".join(map(str, others[:_NAMED])),
                ", ..." if len(others) > _NAMED else "",
            )

    def exports(self) -> list[Export]:
        """Return the exports of all intervals at this path.

        :raises VoiceOSDestinationError: if the manifests cannot be read
        :raises VoiceOSExportError: if one of them is not a manifest
        """
        names = [name for name in self._store.list_versions(layout.MANIFESTS) if layout.interval_of(name)]
        exports = []
        for key, content in self._store.read_all(f"{layout.MANIFESTS}/{name}" for name in sorted(names)):
            try:
                receipt = {**json.loads(content or b""), "target": self._store.uri}
            except (ValueError, TypeError):
                raise self._not_a_manifest(key) from None
            exports.append(Export.from_receipt(receipt))
        return exports

    def outcomes(self, interval: Interval, max_age: timedelta) -> list[IntervalOutcome]:
        """Return the outcomes of all intervals that matter to an export, by their manifests.

        An index remembers the manifests read before with their versions, so only those that were written since are
        read. It is a cache: where it is missing or out of date, the manifests themselves are read.

        :raises VoiceOSDestinationError: if the manifests cannot be read
        """
        versions = self._store.list_versions(layout.MANIFESTS)
        intervals = {name: layout.interval_of(name) for name in versions}
        wanted = {
            name: other
            for name, other in intervals.items()
            if other and is_relevant(other, interval, max_age)
        }
        index = {name: entry for name, entry in self._index().items() if entry.version == versions.get(name)}
        unread = {
            f"{layout.MANIFESTS}/{name}": name for name in wanted if not versions[name] or name not in index
        }
        for key, content in self._store.read_all(unread):
            index[unread[key]] = self._outcome(key, content, versions[unread[key]])
        if unread:
            recent = [name for name in index if name not in wanted] + list(wanted)
            self._save({name: index[name] for name in recent[-_INDEXED:]})
        return [
            IntervalOutcome(other, frozenset(index[name].pending), frozenset(index[name].resolved))
            for name, other in wanted.items()
        ]

    def _outcome(self, key: str, content: bytes | None, version: str) -> _Indexed:
        try:
            manifest = json.loads(content or b"{}")
            pending, unfinished, resolved = (
                list(manifest.get(name) or ()) for name in ("pending_ids", "unfinished_ids", "resolved_ids")
            )
        except (ValueError, AttributeError, TypeError):
            raise self._not_a_manifest(key) from None
        return _Indexed(version, pending + unfinished, resolved)

    def _not_a_manifest(self, key: str) -> VoiceOSExportError:
        return VoiceOSExportError(
            f"{self._store.uri_of(key)} is not a manifest. Remove it, and export its interval again."
        )

    def _index(self) -> dict[str, _Indexed]:
        content = self._store.read(layout.PENDING_INDEX)
        try:
            return msgspec.json.decode(content or b"{}", type=dict[str, _Indexed])
        except msgspec.DecodeError:
            return {}

    def forget(self, ids: frozenset[str]) -> None:
        """Remove what the index remembers of manifests that named one of these conversations.

        :raises VoiceOSDestinationError: if it cannot be replaced
        """
        index = self._index()
        kept = {
            name: entry
            for name, entry in index.items()
            if ids.isdisjoint(entry.pending) and ids.isdisjoint(entry.resolved)
        }
        if len(kept) < len(index):
            self._put(kept)

    def _put(self, index: Mapping[str, _Indexed]) -> None:
        with local_file(".json") as path:
            path.write_bytes(msgspec.json.encode(index))
            self._store.put(path, layout.PENDING_INDEX)

    def _save(self, index: Mapping[str, _Indexed]) -> None:
        try:
            self._put(index)
        except (VoiceOSDestinationError, OSError) as error:  # it would only have saved time
            log.info("Cannot save the index of pending conversations: %s", error)


def _overlap(one: Interval, other: Interval) -> bool:
    return one.start < other.end and other.start < one.end
