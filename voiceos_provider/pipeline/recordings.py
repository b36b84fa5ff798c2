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
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

from voiceos_provider.client import Conversation, VoiceOSClient
from voiceos_provider.client.pages import decoded_page, split_page
from voiceos_provider.client.recordings import RecordingDownloader
from voiceos_provider.client.requests import ENDED
from voiceos_provider.exceptions import (
    VoiceOSAPIError,
    VoiceOSContractError,
    VoiceOSRecordingError,
    VoiceOSResponseTooLargeError,
)
from voiceos_provider.extract.by_id import GONE, NOT_OF_ONE_CONVERSATION, OUTAGE
from voiceos_provider.extract.prefetch import Channel
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
    """What an export of recordings did: `listed = filtered + downloaded + kept + sum(missing) `.

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
    with WorkDir().folder() as folder:
        run = _Run(client, files, recordings, folder, wanted, max_concurrency=options.max_concurrency)
        with closing(run.outcomes()) as outcomes:
            _collect(outcomes, rows, receipt, total=len(wanted))
        _require_few_failures(run, receipt, recordings.max_failed)
        rows |= {id_: RecordingRow(conversation_id=id_, reason="failed") for id_ in run.failed}
        with disk_errors(folder):
            files.publish(rows, folder)
    receipt.missing = Counter(row.reason for row in rows.values() if row.reason)
    log.info(
        "%d recordings downloaded, %d kept, %d missing, %d filtered; %s bytes in %s.",
        receipt.downloaded, receipt.kept, sum(receipt.missing.values()), receipt.filtered,
        f"{receipt.bytes:,}", receipt.target,
    )  # fmt: skip
    return receipt


def _collect(
    outcomes: Generator[tuple[RecordingRow, bool]],
    rows: dict[str, RecordingRow],
    receipt: RecordingsReceipt,
    *,
    total: int,
) -> None:
    logged_at = time.monotonic()
    for row, is_new in outcomes:
        rows[row.conversation_id] = row
        receipt.downloaded += is_new
        receipt.kept += row.reason is None and not is_new
        receipt.bytes += row.bytes or 0
        if time.monotonic() - logged_at >= _PROGRESS_EVERY:
            logged_at = time.monotonic()
            log.info("%d of %d recordings.", receipt.downloaded + receipt.kept, total)


def _require_few_failures(run: _Run, receipt: RecordingsReceipt, max_failed: int) -> None:
    """Raise one of the failures, a retryable one if there is any, if there are too many."""
    if len(run.failed) <= max_failed and not run.remaining:
        return
    error = next((error for error in run.failed.values() if error.retryable), None) or next(
        iter(run.failed.values())
    )
    raise error.adding(
        f"{len(run.failed):,} recordings failed and {len(run.remaining):,} were not requested; "
        f"{receipt.downloaded + receipt.kept:,} are in {receipt.target}, and a retry downloads only the others."
    )


class _Run:
    """Downloads of one run, by several threads.

    :ivar failed: the error of each recording that failed
    :ivar remaining: conversations whose recordings have not been requested
    """

    def __init__(
        self,
        client: VoiceOSClient,
        files: RecordingFiles,
        options: RecordingOptions,
        folder: Path,
        wanted: list[str],
        *,
        max_concurrency: int,
    ) -> None:
        self.failed: dict[str, VoiceOSAPIError] = {}
        self.remaining = wanted[::-1]
        self._files = files
        self._folder = folder
        self._downloader = RecordingDownloader(
            client, max_bytes=options.max_bytes, timeout=options.timeout.total_seconds()
        )
        self._limiter = client.rate_limiter(max_concurrency)
        self._channel: Channel[tuple[RecordingRow, bool]] = Channel(max_concurrency, client.sleep)
        self._taking = threading.Lock()
        self._failures_in_a_row = 0

    def outcomes(self) -> Generator[tuple[RecordingRow, bool]]:
        """Yield the row of each conversation, and whether its recording was downloaded now."""
        with closing(self._downloader):
            yield from self._channel.run(self._work)

    def _work(self) -> None:
        while id_ := self._take():
            with self._limiter.slot(lambda: self._channel.closed):
                try:
                    outcome = self._export(id_)
                except VoiceOSAPIError as error:
                    self._note_failure(id_, error)
                    continue
            if outcome[1]:  # a missing recording says nothing of an outage
                with self._taking:
                    self._failures_in_a_row = 0
            self._channel.send(outcome)

    def _take(self) -> str | None:
        with self._taking:
            if not self.remaining or self._failures_in_a_row >= OUTAGE:
                return None
            return self.remaining.pop()

    def _export(self, id_: str) -> tuple[RecordingRow, bool]:
        """Return the row of a conversation, and whether its recording was downloaded now.

        :raises VoiceOSAPIError: if there is a recording, and it cannot be downloaded
        """
        if row := self._files.find(id_):
            return row, False
        local = self._folder / f"{threading.get_ident()}.part"
        try:
            with disk_errors(self._folder), local.open("w+b") as file:
                recording = self._downloader.download(
                    id_, file, limiter=self._limiter, sleep=self._channel.sleep
                )
        except VoiceOSAPIError as error:
            if (reason := _reason(error)) is None:
                raise
            return RecordingRow(conversation_id=id_, reason=reason), False
        return self._files.put(id_, local, recording), True

    def _note_failure(self, id_: str, error: VoiceOSAPIError) -> None:
        """Note the failure of one recording, or raise the error of all of them.

        :raises VoiceOSAPIError: if it says something of the API or the token
        """
        of_one = isinstance(error, VoiceOSRecordingError | VoiceOSContractError)
        if not of_one and error.status_code in NOT_OF_ONE_CONVERSATION:
            raise error
        log.warning("Failed: %s", error)
        with self._taking:
            self.failed[id_] = error
            self._failures_in_a_row += 1


def _reason(error: VoiceOSAPIError) -> Reason | None:
    """Return the reason for which there is no recording, or None if there may be one."""
    if isinstance(error, VoiceOSResponseTooLargeError):
        return "too_large"
    if error.status_code not in GONE:
        return None
    if isinstance(error, VoiceOSRecordingError):
        return "recording_gone"
    # Without the API's own explanation, as from a gateway while the API is deployed, it says nothing of one.
    return "no_recording" if error.detail else None
