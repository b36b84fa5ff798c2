"""Conversations as files in object storage."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowNotFoundException,
    BaseHook,
    BaseOperator,
    ObjectStoragePath,
    conf,
)

from voiceos_provider.hooks.voiceos import VoiceOSHook
from voiceos_provider.interval import VISIBILITY_DELAY
from voiceos_provider.links.voiceos import VoiceOSFilesLink, VoiceOSManifestLink, links_for
from voiceos_provider.options import MAX_CONCURRENCY
from voiceos_provider.utils.deferral import DefersUntilReadable
from voiceos_provider.utils.errors import StopOnKillMixin, fail_without_retry
from voiceos_provider.utils.missing_connection import missing_connection
from voiceos_provider.utils.openlineage import LineageMixin
from voiceos_provider.utils.outlets import EXPORTS, emit_asset_events
from voiceos_provider.utils.run_interval import resolve_interval

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperatorLink, Context

    from voiceos_provider.load.files.formats import Compression, FileFormat
    from voiceos_provider.options import ExportOptions, ReadStrategy, SchemaDrift


class VoiceOSToObjectStorageOperator(DefersUntilReadable, StopOnKillMixin, LineageMixin, BaseOperator):
    """Write the conversations created in an interval to S3, GCS, Azure or local disk.

    Files are published once all rows are written. A first export that fails meanwhile leaves no data file. A repeated
    one replaces the files one by one, the manifest last; if it fails in between, new and old files of the interval
    remain side by side until its next run, and ``_exported_at`` shows which rows are new.

    Each table has a folder, and each interval a file in it that a retry, a cleared task or a backfill replaces:
    ``conversations/*.parquet``, ``conversation_costs/*.parquet``, ... A manifest with the receipt is written to
    ``_manifests/*.json``, and conversations without a usable id to ``_rejected/*.jsonl``. Use one path for one export:
    tasks with other filters, tables or redaction need a path of their own.

    :param path: folder or bucket to write to: ``s3://bucket/voiceos``, ``gs://...``, ``abfs://...`` or
        ``file:///data/voiceos``. (templated)
    :param voiceos_conn_id: the Connection of the VoiceOS API. (templated)
    :param storage_conn_id: the Connection of the store; None for the store's default credentials. (templated)
    :param interval_start: first instant of creation time, ISO 8601 with an offset; a date, such as ``2026-11-20``, is
        that day in UTC. If not set, the run's data interval, or its asset partition. (templated)
    :param interval_end: exclusive end, which must have passed. (templated)
    :param status: only conversations in this state or these states: ``queued``, ``started``, ``ended``; None for
        all. (templated)
    :param tables: which tables to write: ``conversations``, ``conversation_costs``, ``conversation_messages``,
        ``agent_configs``; None for all. (templated)
    :param redaction: what is kept of personal data, such as ``{"phone_numbers": "hash", "messages": "drop", "prompts":
        "drop", "metadata": "drop"}``. Each class is ``keep`` by default. Phone numbers and metadata may also be
        ``hash``: HMAC-SHA256 with the extra ``phone_hash_key`` of the VoiceOS connection. If messages or prompts are
        dropped, texts in undocumented fields are masked, too. (templated)
    :param file_format: ``parquet``, ``jsonl`` or ``csv``. (templated)
    :param compression: for parquet ``zstd`` (its default), ``gzip``, ``snappy`` or ``none``; for jsonl and csv
        ``none`` (their default), ``gzip`` or ``zstd``. (templated)
    :param carry_pending: look-back in which conversations of earlier intervals below this path that had not ended are
        checked again, as ``timedelta`` or in seconds; those that have ended since are written with this interval. None
        to check none. Deduplicate with ``row_number() over (partition by id order by _exported_at desc) = 1``: a
        conversation is written again when its own interval is exported again.
    :param deferrable: wait in the triggerer until the interval is readable; otherwise the task is rescheduled. Neither
        takes a worker slot; only the last 5 seconds are waited for in the worker.

    Advanced:

    :param schema_drift: ``keep`` undocumented fields and values, and name them in log and receipt; or ``fail`` the
        task. (templated)
    :param max_bad_records: conversations without a usable id that may be set aside before the task fails
    :param read_strategy: ``windows`` exports every conversation of the interval exactly once. ``pages`` counts pages
        with the server's filter of a single state: fewer requests for a rare state, but a conversation that is deleted
        or reordered meanwhile can hide others. (templated)
    :param visibility_delay: how long after its creation a conversation may be missing from listings, as ``timedelta``
        or in seconds; reading starts this long after the interval ends, by the server's clock
    :param max_concurrency: requests in flight at a time
    :param replace_existing: replace the files of an interval that was written with other arguments (status, tables,
        redaction, format); by default the task fails before it reads anything
    :param emit_asset: publish the target as an asset, through the alias ``voiceos_exports``, with the receipt as the
        extra of its event. Other `outlets` get the same extra.
    :return: the receipt: what was listed, exported, filtered, pending, rejected, and each file with rows, bytes and
        SHA-256. It holds the first thousand ids; the manifest holds all. Without ids it is the extra of asset events.
    """

    template_fields: Sequence[str] = (
        "path",
        "voiceos_conn_id",
        "storage_conn_id",
        "interval_start",
        "interval_end",
        "status",
        "tables",
        "redaction",
        "schema_drift",
        "file_format",
        "compression",
        "read_strategy",
    )
    ui_color = "#e8f0ff"
    operator_extra_links: Collection[BaseOperatorLink] = (VoiceOSFilesLink(), VoiceOSManifestLink())

    def __init__(
        self,
        *,
        path: str,
        voiceos_conn_id: str = VoiceOSHook.default_conn_name,
        storage_conn_id: str | None = None,
        interval_start: str | date | None = None,
        interval_end: str | date | None = None,
        status: str | Sequence[str] | None = None,
        tables: Sequence[str] | None = None,
        redaction: Mapping[str, str] | None = None,
        file_format: FileFormat = "parquet",
        compression: Compression | None = None,
        carry_pending: timedelta | float | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        schema_drift: SchemaDrift = "keep",
        max_bad_records: int = 0,
        read_strategy: ReadStrategy = "windows",
        visibility_delay: timedelta | float = VISIBILITY_DELAY,
        max_concurrency: int = MAX_CONCURRENCY,
        replace_existing: bool = False,
        emit_asset: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.path = path
        self.voiceos_conn_id = voiceos_conn_id
        self.storage_conn_id = storage_conn_id
        self.interval_start = interval_start
        self.interval_end = interval_end
        self.status = status
        self.tables = tables
        self.redaction = redaction
        self.schema_drift = schema_drift
        self.file_format = file_format
        self.compression = compression
        self.max_bad_records = max_bad_records
        self.read_strategy = read_strategy
        self.visibility_delay = visibility_delay
        self.deferrable = deferrable
        self.max_concurrency = max_concurrency
        self.carry_pending = carry_pending
        self.replace_existing = replace_existing
        self.emit_asset = emit_asset
        if emit_asset:
            self.add_outlets([EXPORTS])

    @cached_property
    def hook(self) -> VoiceOSHook:
        """The hook of the task."""
        return VoiceOSHook(self.voiceos_conn_id)

    def execute(self, context: Context) -> dict[str, Any]:
        """Wait until the interval is readable, then export it."""
        self.operator_extra_links = ()  # a task that fails has no files to show
        self.defer_until_readable(context)
        return self.export(context)

    def export_options(self, context: Context) -> ExportOptions:
        """Return the options of the export, and check the other arguments."""
        from voiceos_provider.load.files.formats import Encoding

        Encoding.choose(self.file_format, self.compression)
        self._root()
        return self.hook.options(
            resolve_interval(self.interval_start, self.interval_end, context),
            status=self.status,
            tables=self.tables,
            redaction=self.redaction,
            schema_drift=self.schema_drift,
            read_strategy=self.read_strategy,
            visibility_delay=self.visibility_delay,
            max_concurrency=self.max_concurrency,
            max_bad_records=self.max_bad_records,
            carry_pending=self.carry_pending,
        )

    def export(self, context: Context) -> dict[str, Any]:
        """Read, then publish; a retry resumes where it can, a clear starts over, and both leave the same files."""
        from voiceos_provider.load.files.destination import FilesDestination
        from voiceos_provider.load.files.formats import Encoding
        from voiceos_provider.utils.resume import workdir_for

        self.operator_extra_links = ()  # again, since a task that was deferred begins here
        with fail_without_retry(), self.hook as hook:
            options = self.export_options(context)
            encoding = Encoding.choose(self.file_format, self.compression)
            destination = FilesDestination(
                self._root(), encoding=encoding, replace_existing=self.replace_existing
            )
            decisive = {
                "interval": str(options.interval),
                "account": hook.account_id,
                "key_id": options.redaction.key_id,
            }
            with workdir_for(self, context, **decisive) as workdir:
                receipt = hook.export_to(destination, options, workdir=workdir)
        emit_asset_events(context, self.outlets, receipt)
        self.report_lineage(receipt.summary(), source=hook.base_url)
        self.operator_extra_links = links_for(receipt.target)
        return receipt.summary()

    def _root(self) -> ObjectStoragePath:
        from voiceos_provider.load.files.layout import require_safe
        from voiceos_provider.load.files.store import cannot_open

        # Not in __init__: a path with a connection id looks the connection up.
        path = str(self.path)
        require_safe(path)
        if self.storage_conn_id:
            # Airflow's paths take an unknown id for none, and would use whatever credentials lie around.
            try:
                BaseHook.get_connection(self.storage_conn_id)
            except AirflowNotFoundException as error:
                raise missing_connection(self.storage_conn_id, parameter="storage_conn_id") from error
        try:
            root = ObjectStoragePath(
                path if "://" in path else f"file://{path}", conn_id=self.storage_conn_id
            )
            root.fs  # noqa: B018  loads the store's package
        except (ImportError, ValueError) as error:
            raise cannot_open(path, error) from error
        return root
