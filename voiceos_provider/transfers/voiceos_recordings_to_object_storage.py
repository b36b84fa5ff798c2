"""Recordings of conversations as audio files in object storage."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.operators.base import VoiceOSExportOperator
from voiceos_provider.utils.storage import open_path

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from voiceos_provider.load.files.recordings import RecordingFiles
    from voiceos_provider.options import ExportOptions
    from voiceos_provider.pipeline.recordings import RecordingOptions


class VoiceOSRecordingsToObjectStorageOperator(VoiceOSExportOperator):
    """Write the recordings of the conversations created in an interval to S3, GCS, Azure or local disk.

    Recordings are voices, the most personal data of a conversation, and nothing masks them. No other operator downloads
    audio. Restrict who can read the path, encrypt it, and let the store delete old files.

    Audio is written to ``recordings/<interval>/<conversation id>.wav`` (or ``.mp3``, ...) and listed in the table
    ``conversation_recordings/*.parquet``, with path, size, SHA-256 and content type. A conversation without a recording
    is a row with a reason. A retry or a second run downloads only what is missing or damaged, and deletes nothing.

    A recording that exists and cannot be downloaded is a failure. The others are stored first; then the task fails, if
    there are more failures than `max_failed`, and a retry downloads only those.

    :param path: folder or bucket to write to: ``s3://bucket/voiceos``, ``gs://...``, ``abfs://...`` or
        ``file:///data/voiceos``. (templated)
    :param storage_conn_id: the Connection of the store; None for the store's default credentials. (templated)
    :param conversation_type: only conversations of this type or these types, such as ``inbound_phone_call``; None for
        all. (templated)
    :param agent_id: only conversations of this agent or these agents; None for all. (templated)
    :param min_duration: only conversations that lasted at least this long, as ``timedelta`` or in seconds
    :param max_duration: only conversations that lasted at most this long, as ``timedelta`` or in seconds

    Advanced:

    :param max_recording_bytes: a larger recording is not downloaded; its row has the reason ``too_large``
    :param download_timeout: limit for one attempt of a download, as ``timedelta`` or in seconds
    :param max_failed: number of failed recordings that the task tolerates; their rows have the reason ``failed``
    :param kwargs: the parameters of `VoiceOSExportOperator` and of every operator. `max_concurrency` also limits the
        concurrent downloads; `redaction` is refused, because it does not apply to audio
    :return: the paths, and the numbers of conversations and recordings listed, filtered, downloaded, kept and missing
        by reason
    """

    template_fields: Sequence[str] = (
        "path",
        "storage_conn_id",
        "conversation_type",
        "agent_id",
        *VoiceOSExportOperator.template_fields,
    )

    def __init__(
        self,
        *,
        path: str,
        storage_conn_id: str | None = None,
        conversation_type: str | Sequence[str] | None = None,
        agent_id: str | Sequence[str] | None = None,
        min_duration: timedelta | float | None = None,
        max_duration: timedelta | float | None = None,
        max_recording_bytes: int = 256 * 2**20,
        download_timeout: timedelta | float = timedelta(minutes=5),
        max_failed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.path = path
        self.storage_conn_id = storage_conn_id
        self.conversation_type = conversation_type
        self.agent_id = agent_id
        self.min_duration = min_duration
        self.max_duration = max_duration
        self.max_recording_bytes = max_recording_bytes
        self.download_timeout = download_timeout
        self.max_failed = max_failed

    def execute(self, context: Context) -> dict[str, Any]:
        """Wait until the interval is readable, then export it."""
        receipt: dict[str, Any] = self.export_when_readable(context)
        return receipt

    def export_options(self, context: Context, **others: Any) -> ExportOptions:
        """Return the options of the export, and check the arguments."""
        if self.redaction:
            raise VoiceOSValueError("redaction does not apply to recordings; leave it out.")
        self._recording_options()
        return super().export_options(context, **others)

    def destination(self, options: ExportOptions) -> RecordingFiles:
        """Return the recordings below the path."""
        from voiceos_provider.load.files.recordings import RecordingFiles

        return RecordingFiles(open_path(str(self.path), self.storage_conn_id), options.interval)

    def export(self, context: Context, options: ExportOptions, destination: RecordingFiles) -> dict[str, Any]:
        """Download what is missing, and list all recordings."""
        from voiceos_provider.pipeline.recordings import export_recordings

        client = self.hook.get_conn()
        return export_recordings(client, destination, options, self._recording_options()).as_dict()

    def _recording_options(self) -> RecordingOptions:
        from voiceos_provider.pipeline.recordings import RecordingOptions

        return RecordingOptions.parse(
            conversation_type=self.conversation_type,
            agent_id=self.agent_id,
            min_duration=self.min_duration,
            max_duration=self.max_duration,
            max_recording_bytes=self.max_recording_bytes,
            download_timeout=self.download_timeout,
            max_failed=self.max_failed,
        )
