"""Export of recordings: the audio of an interval's conversations, several at a time.

The interval is read first, and then the recordings are downloaded, so that requests for both are never paced by two
rate limiters at once. Audio goes to a file in the work directory, and from there to the store. No state of a run is
kept elsewhere: after a kill, the next run finds what the store holds.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Self

from voiceos_provider.client import Conversation, VoiceOSClient
from voiceos_provider.client.pages import decoded_page, split_page
from voiceos_provider.client.rate_limiter import RateLimiter
from voiceos_provider.client.recordings import RecordingDownloader
from voiceos_provider.client.requests import ENDED
from voiceos_provider.exceptions import (
    VoiceOSAPIError,
    VoiceOSContractError,
    VoiceOSRecordingError,
    VoiceOSResponseTooLargeError,
)
from voiceos_provider.extract.workers import Sleep, for_each_id
from voiceos_provider.interval import as_duration, isoformat
from voiceos_provider.load.files.recordings import Reason, RecordingFiles, RecordingRow
from voiceos_provider.load.workdir import WorkDir, disk_errors
from voiceos_provider.options import ExportOptions, as_count, as_names
from voiceos_provider.pipeline.run import read_interval

log = logging.getLogger(__name__)

_PROGRESS_EVERY = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingOptions:
    """Which recordings are downloaded, besides the interval and the states of `ExportOptions`. Use `parse`.

    :param types: only conversations of these types; empty for all
    :param agent_ids: only conversations of these agents; empty for all
    :param min_duration: only conversations that lasted at least this long
    :param max_duration: only conversations that lasted at most this long; None for no limit
    :param max_bytes: largest recording that is downloaded
    :param timeout: limit for one attempt of a download
    :param max_failed: failed recordings that the export tolerates
    """

    types: tuple[str, ...]
    agent_ids: tuple[str, ...]
    min_duration: timedelta | None
    max_duration: timedelta | None
    max_bytes: int
    timeout: timedelta
    max_failed: int

    @classmethod
    def parse(
        cls,
        *,
        conversation_type: str | Sequence[str] | None,
        agent_id: str | Sequence[str] | None,
        min_duration: timedelta | float | None,
        max_duration: timedelta | float | None,
        max_recording_bytes: int,
        download_timeout: timedelta | float,
        max_failed: int,
    ) -> Self:
        """Validate user input, such as rendered templates, and return the options.

        :raises VoiceOSValueError: if a value is wrong; the message names the parameter
        """
        return cls(
            types=as_names("conversation_type", conversation_type) or (),
            agent_ids=as_names("agent_id", agent_id) or (),
            min_duration=None if min_duration is None else as_duration("min_duration", min_duration),
            max_duration=None if max_duration is None else as_duration("max_duration", max_duration),
            max_bytes=as_count("max_recording_bytes", max_recording_bytes, minimum=1),
            timeout=as_duration("download_timeout", download_timeout),
            max_failed=as_count("max_failed", max_failed, minimum=0),
        )

    def select(self, conversation: Conversation) -> bool:
        """Return whether a conversation passes the filters. With one of duration, it must have both of its times."""
        if self.types and conversation.type not in self.types:
            return False
        if self.agent_ids and conversation.agent_id not in self.agent_ids:
            return False
        if self.min_duration is None and self.max_duration is None:
            return True
        if conversation.started_at is None or conversation.ended_at is None:
            return False
        duration = conversation.ended_at - conversation.started_at
        return (self.min_duration or timedelta(0)) <= duration <= (self.max_duration or timedelta.max)


@dataclass(kw_only=True)
class RecordingsReceipt:
    """What an export of recordings did: `listed = filtered + downloaded + kept + sum(missing.values())`.

    :param target: the folder, without credentials
    :param manifest: the table that lists the recordings
    :param interval_start: RFC 3339; first instant of creation time
    :param interval_end: RFC 3339; its exclusive end
    :param listed: conversations with a usable id
    :param unreadable: further ones, without a usable id or that the server cannot return
    :param filtered: conversations that the filters leave out
    :param downloaded: recordings downloaded by this run
    :param kept: recordings that were stored already
    :param missing: conversations without a recording, by reason
    :param bytes: bytes of the recordings downloaded and kept
    """

    target: str
    manifest: str
    interval_start: str
    interval_end: str
    listed: int = 0
    unreadable: int = 0
    filtered: int = 0
    downloaded: int = 0
    kept: int = 0
    missing: dict[str, int] = field(default_factory=Counter)
    bytes: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the receipt as plain JSON."""
        return asdict(self) | {"missing": dict(self.missing)}


def export_recordings(
    client: VoiceOSClient,
    files: RecordingFiles,
    options: ExportOptions,
    recordings: RecordingOptions,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> RecordingsReceipt:
    """Download the recordings of an interval that are not stored yet, and list all of them in the manifest.

    A conversation without a recording, or with one that is too large, is a row with a reason, and no failure. A
    recording that exists and cannot be downloaded is a failure; the others are stored nevertheless. If more than
    `max_failed` fail, the export does, and a retry downloads only those.

    :raises VoiceOSError: as in `voiceos_provider.exceptions`
    """
    files.open()
    receipt = RecordingsReceipt(
        target=files.uri,
        manifest=files.manifest_uri,
        interval_start=isoformat(options.interval.start),
        interval_end=isoformat(options.interval.end),
    )
    rows: dict[str, RecordingRow] = {}
    wanted: list[str] = []
    for page in read_interval(client, options, parse=split_page, sleep=sleep):
        decoded = decoded_page(page)
        receipt.unreadable += len(decoded.rejected) + len(decoded.unreadable)
        receipt.listed += len(decoded.conversations)
        for each in decoded.conversations:
            if (options.statuses and each.status not in options.statuses) or not recordings.select(each):
                receipt.filtered += 1
            elif each.status != ENDED:
                rows[each.id] = RecordingRow(conversation_id=each.id, reason="not_ended")
            else:
                wanted.append(each.id)
    if receipt.unreadable:
        log.warning("%d conversations cannot be read; their recordings are not exported.", receipt.unreadable)
    log.info("Exporting up to %d recordings of %s to %s.", len(wanted), options.interval, files.uri)
    timeout = recordings.timeout.total_seconds()
    downloader = RecordingDownloader(client, max_bytes=recordings.max_bytes, timeout=timeout)
    with WorkDir().folder() as folder, closing(downloader):
        work = partial(_export, downloader, files, folder)
        with closing(for_each_id(client, wanted, work, max_concurrency=options.max_concurrency)) as outcomes:
            failed = _collect(outcomes, rows, receipt, total=len(wanted))
        _require_few_failures(failed, sum(id_ not in rows for id_ in wanted), receipt, recordings.max_failed)
        with disk_errors(folder):
            files.publish(rows, folder)
    receipt.missing = Counter(row.reason for row in rows.values() if row.reason)
    log.info(
        "%d recordings downloaded, %d kept, %d missing, %d filtered; %s bytes in %s.",
        receipt.downloaded, receipt.kept, sum(receipt.missing.values()), receipt.filtered,
        f"{receipt.bytes:,}", receipt.target,
    )  # fmt: skip
    return receipt


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """What became of one recording.

    :param is_new: whether it was downloaded now
    :param error: why it could not be downloaded
    """

    row: RecordingRow
    is_new: bool = False
    error: VoiceOSAPIError | None = None

    @property
    def server_failed(self) -> bool | None:
        """Whether a download failed; None without a download, since the API and the store may be two servers."""
        return self.error is not None if self.error or self.is_new else None


def _collect(
    outcomes: Iterable[_Outcome], rows: dict[str, RecordingRow], receipt: RecordingsReceipt, *, total: int
) -> list[VoiceOSAPIError]:
    """Add rows and counts, and return the errors."""
    failed: list[VoiceOSAPIError] = []
    logged_at = time.monotonic()
    for outcome in outcomes:
        row = outcome.row
        rows[row.conversation_id] = row
        receipt.downloaded += outcome.is_new
        receipt.kept += row.reason is None and not outcome.is_new
        receipt.bytes += row.bytes or 0
        if outcome.error:
            failed.append(outcome.error)
        if time.monotonic() - logged_at >= _PROGRESS_EVERY:
            logged_at = time.monotonic()
            log.info("%d of %d recordings.", receipt.downloaded + receipt.kept, total)
    return failed


def _require_few_failures(
    failed: list[VoiceOSAPIError], remaining: int, receipt: RecordingsReceipt, max_failed: int
) -> None:
    """Raise one of the failures, a retryable one if there is any, if there are too many."""
    if len(failed) <= max_failed and not remaining:
        return
    error = next((error for error in failed if error.retryable), failed[0])
    raise error.adding(
        f"{len(failed):,} recordings failed and {remaining:,} were not requested; "
        f"{receipt.downloaded + receipt.kept:,} are in {receipt.target}, and a retry downloads only the others."
    )


def _export(
    downloader: RecordingDownloader,
    files: RecordingFiles,
    folder: Path,
    id_: str,
    limiter: RateLimiter,
    sleep: Sleep,
) -> _Outcome:
    """Store the recording of a conversation, unless it is stored already.

    :raises VoiceOSAPIError: if no other recording could be downloaded either
    """
    if row := files.find(id_):
        return _Outcome(row=row)
    local = folder / f"{threading.get_ident()}.part"
    try:
        with disk_errors(folder), local.open("w+b") as file:
            recording = downloader.download(id_, file, limiter=limiter, sleep=sleep)
    except VoiceOSAPIError as error:
        if reason := _reason(error):
            return _Outcome(row=RecordingRow(conversation_id=id_, reason=reason))
        of_one = isinstance(error, VoiceOSRecordingError | VoiceOSContractError)
        if error.concerns_all_requests and not of_one:
            raise
        log.warning("Failed: %s", error)
        return _Outcome(row=RecordingRow(conversation_id=id_, reason="failed"), error=error)
    return _Outcome(row=files.put(id_, local, recording), is_new=True)


def _reason(error: VoiceOSAPIError) -> Reason | None:
    """Return the reason for which there is no recording, or None if there may be one."""
    if isinstance(error, VoiceOSResponseTooLargeError):
        return "too_large"
    if not error.is_gone:
        return None
    return "recording_gone" if isinstance(error, VoiceOSRecordingError) else "no_recording"
