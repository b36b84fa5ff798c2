"""Conversations as files in object storage."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from voiceos_provider.links.voiceos import VoiceOSFilesLink, VoiceOSManifestLink, links_for
from voiceos_provider.transfers.base import VoiceOSTransferOperator
from voiceos_provider.utils.storage import open_path

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperatorLink, Context

    from voiceos_provider.load.destination import Destination
    from voiceos_provider.load.files.destination import FilesDestination
    from voiceos_provider.load.files.formats import Compression, FileFormat
    from voiceos_provider.load.files.layout import Layout
    from voiceos_provider.options import ExportOptions


class VoiceOSToObjectStorageOperator(VoiceOSTransferOperator):
    """Write the conversations created in an interval to S3, GCS, Azure or local disk.

    Files are published once all rows are written. If a first export fails, it leaves no data file. A repeated export
    replaces the files one by one, the manifest last. If it fails in between, new and old files of the interval remain
    side by side until its next run, and ``_exported_at`` identifies the new rows.

    Each table has a folder, and each interval a file in it that a retry, a cleared task or a backfill replaces:
    ``conversations/*.parquet``, ``conversation_costs/*.parquet``, ... A manifest with the receipt is written to
    ``_manifests/*.json``, and conversations without a usable id to ``_rejected/*.jsonl``. Use a
    separate path for tasks with other filters, tables or redaction.

    With `carry_pending`, the manifests below the path list the conversations that had not ended. Deduplicate with
    ``row_number() over (partition by id order by _exported_at desc) = 1``: a conversation is written again when its own
    interval is exported again.

    :param path: folder or bucket to write to: ``s3://bucket/voiceos``, ``gs://...``, ``abfs://...`` or
        ``file:///data/voiceos``. (templated)
    :param storage_conn_id: the Connection of the store; None for the store's default credentials. (templated)
    :param file_format: ``parquet``, ``jsonl`` or ``csv``. (templated)
    :param compression: for parquet ``zstd`` (its default), ``gzip``, ``snappy`` or ``none``; for jsonl and csv
        ``none`` (their default), ``gzip`` or ``zstd``. (templated)
    :param layout: ``flat``, or ``hive`` with a folder for each day in UTC, such as
        ``conversations/dt=2026-11-20/*.parquet``, so that query engines read only the days that a query needs. An
        interval must then be within one day. (templated)
    :param target_file_bytes: size at which a data file is closed and another one begins, for very large intervals; at
        least 1,000,000. A file exceeds it by up to one row group. None for one file.
    :param replace_existing: replace the files of an interval that was written with other arguments (status, tables,
        redaction, format, layout); by default the task fails before it reads anything. Another layout than that of
        other intervals below the path is always refused.
    :param kwargs: the parameters of `VoiceOSTransferOperator`, `VoiceOSExportOperator` and of every operator
    :return: the receipt: what was listed, exported, filtered, pending, rejected, and each file with rows, bytes and
        SHA-256. It holds the first thousand ids; the manifest holds all. Without ids it is the extra of asset events.
    """

    template_fields: Sequence[str] = (
        "path",
        "storage_conn_id",
        "file_format",
        "compression",
        "layout",
        *VoiceOSTransferOperator.template_fields,
    )
    operator_extra_links: Collection[BaseOperatorLink] = (VoiceOSFilesLink(), VoiceOSManifestLink())

    def __init__(
        self,
        *,
        path: str,
        storage_conn_id: str | None = None,
        file_format: FileFormat = "parquet",
        compression: Compression | None = None,
        layout: Layout = "flat",
        target_file_bytes: int | None = None,
        replace_existing: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.path = path
        self.storage_conn_id = storage_conn_id
        self.file_format = file_format
        self.compression = compression
        self.layout = layout
        self.target_file_bytes = target_file_bytes
        self.replace_existing = replace_existing

    def export_options(self, context: Context, **others: Any) -> ExportOptions:
        """Return the options of the export, and check the arguments."""
        self.operator_extra_links = ()  # a task that fails has no files to show
        return super().export_options(context, **others)

    def export(self, context: Context, options: ExportOptions, destination: Destination) -> dict[str, Any]:
        """Read, then publish; a retry resumes if it can, a cleared task starts over, and both leave the same files."""
        receipt = super().export(context, options, destination)
        self.operator_extra_links = links_for(receipt["target"])
        return receipt

    def destination(self, options: ExportOptions) -> FilesDestination:
        """Return the files below the path."""
        from voiceos_provider.load.files.destination import FilesDestination
        from voiceos_provider.load.files.formats import Encoding

        encoding = Encoding.choose(self.file_format, self.compression)
        return FilesDestination(
            open_path(str(self.path), self.storage_conn_id),
            encoding=encoding,
            layout=self.layout,
            target_file_bytes=self.target_file_bytes,
            replace_existing=self.replace_existing,
        )
