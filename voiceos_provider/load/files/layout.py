"""Layout of the files below an export's path.

    conversations/conversations_20261101T000000Z_20261102T000000Z.parquet     one per interval: what a glob reads
    conversations/conversations_20261101T000000Z_20261102T000000Z_0002.parquet    its further files, if it is split
    conversations/dt=2026-11-01/conversations_....parquet                     the same in the layout `hive`
    conversation_costs/conversation_costs_20261101T000000Z_....parquet        likewise, and so for each table
    _manifests/20261101T000000Z_20261102T000000Z.json                         the receipt of that interval
    _rejected/20261101T000000Z_20261102T000000Z.jsonl                         records without a usable id, if any
    _pending/index.json                                                       cache of what the manifests say is pending
    _incoming/                                                                copies in progress, on some stores

Names depend on the interval alone. A run that is repeated replaces its own file, and a glob over the data folder
sees one complete file per interval at any time, unless its files are limited in size.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal, get_args

from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.interval import TICK, Interval

Layout = Literal["flat", "hive"]
"""How the data files of a table are arranged: all in one folder, or a folder `dt=2026-11-01` for each day in UTC."""

LAYOUTS: tuple[Layout, ...] = get_args(Layout)

MANIFESTS = "_manifests"
REJECTED = "_rejected"
PENDING_INDEX = "_pending/index.json"

_ABSOLUTE = re.compile(r"/|[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def require_safe(path: str) -> None:
    """Raise if a rendered path could point outside the folder that it appears to name.

    :raises VoiceOSValueError: if it is relative, or contains `..`, an empty segment or a control character
    """
    if re.search(r"[\x00-\x1f\x7f]", path):
        raise VoiceOSValueError(f"path {path!r} holds a control character; check the template.")
    absolute = _ABSOLUTE.match(path)
    if not absolute or re.match(r"(file|local)://[^/]", path, re.IGNORECASE):
        raise VoiceOSValueError(
            f"path {path!r} is relative; write an absolute one or a URL, such as s3://bucket/voiceos or "
            "file:///data/voiceos."
        )
    steps = path[absolute.end() :].strip("/").split("/")
    if steps == [""]:
        raise VoiceOSValueError(f"path {path!r} has no folder or bucket to write to.")
    odd = [step for step in steps if step in ("", ".", "..", "None")]
    if odd:
        raise VoiceOSValueError(f"path {path!r} has the step {odd[0]!r}; check the template.")


def data(table: str, interval: Interval, suffix: str, *, layout: Layout = "flat", part: int = 1) -> str:
    """Return the key of a data file of a table and an interval.

    :param part: its number, if the interval has several files; the first has the same name as a single one
    """
    return f"{data_prefix(table, interval, layout)}{'' if part == 1 else f'_{part:04}'}{suffix}"


def data_prefix(table: str, interval: Interval, layout: Layout) -> str:
    """Return what the keys of all data files of a table and an interval begin with."""
    day = f"dt={interval.start.astimezone(UTC).date()}/" if layout == "hive" else ""
    return f"{table}/{day}{table}_{interval.label}"


def is_data(key: str, prefix: str, suffixes: Iterable[str]) -> bool:
    """Return whether a key that begins with a `data_prefix` is that of a data file of its interval."""
    endings = "|".join(map(re.escape, suffixes))
    return re.fullmatch(rf"(_\d{{4,}})?({endings})", key.removeprefix(prefix)) is not None


def require_one_day(interval: Interval) -> None:
    """Raise if an interval has no partition of the layout `hive`.

    :raises VoiceOSValueError: if it extends over midnight in UTC
    """
    first, last = (instant.astimezone(UTC).date() for instant in (interval.start, interval.end - TICK))
    if first != last:
        raise VoiceOSValueError(
            f"The layout 'hive' has a folder for each day in UTC, but {interval} extends from {first} to {last}. "
            "The API does not send when a conversation was created, so its files cannot be divided. Export days in "
            "UTC or hours, with split_interval for a longer range, or use layout='flat'."
        )


def interval_of_data(key: str, suffixes: Iterable[str]) -> tuple[Interval, str] | None:
    """Return the interval and the suffix of a data file, or None if the key is not that of one."""
    table, name = key.partition("/")[0], key.rpartition("/")[2]
    endings = "|".join(map(re.escape, suffixes))
    found = re.fullmatch(rf"{table}_([^_]+_[^_]+?)(?:_\d{{4,}})?({endings})", name)
    interval = interval_of(found[1]) if found else None
    return (interval, found[2]) if found and interval else None


def manifest(interval: Interval) -> str:
    """Return the key of the receipt of an interval."""
    return f"{MANIFESTS}/{interval.label}.json"


def interval_of(name: str) -> Interval | None:
    """Return the interval of a manifest's name, or None if it is not the name of a manifest."""
    try:
        start, end = name.removesuffix(".json").split("_")
        return Interval(datetime.fromisoformat(start), datetime.fromisoformat(end))
    except (ValueError, TypeError):
        return None


def rejected(interval: Interval) -> str:
    """Return the key of the records without a usable id."""
    return f"{REJECTED}/{interval.label}.jsonl"


def incoming(name: str) -> str:
    """Return the key of an incomplete copy. Not beside its target: to many readers `*` includes names with a dot."""
    return f"_incoming/{name}"
