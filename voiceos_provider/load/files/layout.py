"""Layout of the files below an export's path.

    conversations/conversations_20261101T000000Z_20261102T000000Z.parquet     one per interval: what a glob reads
    conversation_costs/conversation_costs_20261101T000000Z_....parquet        likewise, and so for each table
    _manifests/20261101T000000Z_20261102T000000Z.json                         the receipt of that interval
    _rejected/20261101T000000Z_20261102T000000Z.jsonl                         records without a usable id, if any
    _pending/index.json                                                       cache of what the manifests say is pending
    _incoming/                                                                copies in progress, on some stores

Names depend on the interval alone. A run that is repeated replaces its own file, and a glob over the data folder
sees one complete file per interval at any time.
"""

from __future__ import annotations

import re
from datetime import datetime

from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.interval import Interval

MANIFESTS = "_manifests"
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


def data(table: str, interval: Interval, suffix: str) -> str:
    """Return the key of the data file of a table and an interval."""
    return f"{table}/{table}_{interval.label}{suffix}"


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
    return f"_rejected/{interval.label}.jsonl"


def incoming(name: str) -> str:
    """Return the key of an incomplete copy. Not beside its target: to many readers `*` includes names with a dot."""
    return f"_incoming/{name}"
