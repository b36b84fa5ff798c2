"""Conversations as rows of a database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, get_args

from airflow.providers.common.compat.sdk import BaseOperator, conf

from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.hooks.voiceos import VoiceOSHook
from voiceos_provider.interval import VISIBILITY_DELAY
from voiceos_provider.options import MAX_CONCURRENCY
from voiceos_provider.utils.deferral import DefersUntilReadable
from voiceos_provider.utils.errors import StopOnKillMixin, fail_without_retry
from voiceos_provider.utils.openlineage import LineageMixin
from voiceos_provider.utils.outlets import EXPORTS, emit_asset_events
from voiceos_provider.utils.run_interval import resolve_interval

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from voiceos_provider.load.sql.plan import WriteDisposition
    from voiceos_provider.options import ExportOptions, ReadStrategy, SchemaDrift


class VoiceOSToSqlOperator(DefersUntilReadable, StopOnKillMixin, LineageMixin, BaseOperator):
    """Load the conversations created in an interval into tables of a database: all of them, or none.

    The type of the connection selects the SQL dialect. Rows wait on local disk until all have been read; then they are
    staged, merged, counted and committed in one transaction, where the engine has transactions.

    :param sql_conn_id: the Connection of the database: Postgres, Redshift, MySQL, SQLite, DuckDB, Snowflake,
        BigQuery, Databricks, ClickHouse, or one whose hook is a ``DbApiHook`` and whose SQL is close to the standard;
        see docs/reference/databases.md. (templated)
    :param schema: the schema of the tables (a database in MySQL and ClickHouse, a dataset in BigQuery), which must
        exist; None for the connection's own. (templated)
    :param table_prefix: prefix of the names of the tables. (templated)
    :param voiceos_conn_id: the Connection of the VoiceOS API. (templated)
    :param interval_start: first instant of creation time, ISO 8601 with an offset; a date, such as ``2026-11-20``, is
        that day in UTC. If not set, the run's data interval, or its asset partition. (templated)
    :param interval_end: exclusive end, which must have passed. (templated)
    :param lookback: how much earlier than the run's own interval to begin, as ``timedelta`` or in seconds, to update
        rows that changed after they were loaded, such as late costs. Ignored if `interval_start` is set.
    :param status: only conversations in this state or these states: ``queued``, ``started``, ``ended``; None for
        all. (templated)
    :param tables: which tables to write: ``conversations``, ``conversation_costs``, ``conversation_messages``,
        ``agent_configs``; None for all. (templated)
    :param write_disposition: ``merge`` inserts new rows and updates changed ones, and never overwrites a newer row
        version; ``replace`` also deletes all other rows of the interval: conversations that the API does not list any
        more, and those that this export leaves out by `status` or rejects; ``append`` only inserts, and duplicates rows
        that were inserted before. ``agent_configs`` has one row per configuration
        in each case. (templated)
    :param redaction: which personal data is masked: ``{"phone_numbers": "hash", "messages": "drop", "prompts":
        "drop"}``; see `VoiceOSToObjectStorageOperator`. (templated)
    :param carry_pending: look-back in which rows of earlier intervals that had not ended are checked again, as
        ``timedelta`` or in seconds; those that have ended since are updated. None to check none. Needs ``merge`` and
        every state.
    :param deferrable: wait in the triggerer until the interval is readable; otherwise the task is rescheduled. Neither
        takes a worker slot; only the last 5 seconds are waited for in the worker.

    Advanced:

    :param create_tables: create missing tables and columns; columns that are not ours are never changed
    :param schema_drift: ``keep`` undocumented fields and values, and name them in log and receipt; or ``fail`` the
        task. (templated)
    :param max_bad_records: conversations without a usable id that may be set aside in the table
        ``rejected_conversations`` before the task fails
    :param lock_timeout: seconds to wait for a lock on the tables, which another export may hold
    :param dialect: SQL dialect, if the type of the connection does not select it: ``postgres`` or another name of
        `voiceos_provider.load.sql.DIALECTS`. (templated)
    :param hook_params: further arguments of the connection's own hook, such as Snowflake's ``warehouse``. (templated)
    :param read_strategy: ``windows`` or ``pages``; see `VoiceOSToObjectStorageOperator`. (templated)
    :param visibility_delay: how long after its creation a conversation may be missing from listings, as ``timedelta``
        or in seconds; reading starts this long after the interval ends, by the server's clock
    :param max_concurrency: requests in flight at a time
    :param emit_asset: publish the target as an asset, through the alias ``voiceos_exports``, with the receipt as the
        extra of its event. Other `outlets` get the same extra.
    :return: the receipt: what was listed, exported, filtered, rejected, and per table the rows inserted, updated,
        unchanged and deleted. Without ids it is the extra of asset events.
    """

    template_fields: Sequence[str] = (
        "sql_conn_id",
        "schema",
        "table_prefix",
        "voiceos_conn_id",
        "interval_start",
        "interval_end",
        "status",
        "tables",
        "write_disposition",
        "redaction",
        "schema_drift",
        "dialect",
        "hook_params",
        "read_strategy",
    )
    ui_color = "#e8f0ff"

    def __init__(
        self,
        *,
        sql_conn_id: str,
        schema: str | None = None,
        table_prefix: str = "",
        voiceos_conn_id: str = VoiceOSHook.default_conn_name,
        interval_start: str | date | None = None,
        interval_end: str | date | None = None,
        lookback: timedelta | float = timedelta(0),
        status: str | Sequence[str] | None = None,
        tables: Sequence[str] | None = None,
        write_disposition: WriteDisposition = "merge",
        redaction: Mapping[str, str] | None = None,
        carry_pending: timedelta | float | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        create_tables: bool = True,
        schema_drift: SchemaDrift = "keep",
        max_bad_records: int = 0,
        lock_timeout: float = 300,
        dialect: str | None = None,
        hook_params: Mapping[str, Any] | None = None,
        read_strategy: ReadStrategy = "windows",
        visibility_delay: timedelta | float = VISIBILITY_DELAY,
        max_concurrency: int = MAX_CONCURRENCY,
        emit_asset: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sql_conn_id = sql_conn_id
        self.schema = schema
        self.table_prefix = table_prefix
        self.voiceos_conn_id = voiceos_conn_id
        self.interval_start = interval_start
        self.interval_end = interval_end
        self.lookback = lookback
        self.status = status
        self.tables = tables
        self.write_disposition = write_disposition
        self.create_tables = create_tables
        self.redaction = redaction
        self.schema_drift = schema_drift
        self.max_bad_records = max_bad_records
        self.lock_timeout = lock_timeout
        self.dialect = dialect
        self.hook_params = hook_params
        self.read_strategy = read_strategy
        self.visibility_delay = visibility_delay
        self.deferrable = deferrable
        self.max_concurrency = max_concurrency
        self.carry_pending = carry_pending
        self.emit_asset = emit_asset
        if emit_asset:
            self.add_outlets([EXPORTS])

    @cached_property
    def hook(self) -> VoiceOSHook:
        """The hook of the task."""
        return VoiceOSHook(self.voiceos_conn_id)

    def execute(self, context: Context) -> dict[str, Any]:
        """Wait until the interval is readable, then export it."""
        self.defer_until_readable(context)
        return self.export(context)

    def export_options(self, context: Context) -> ExportOptions:
        """Return the options of the export, and check the other arguments."""
        from voiceos_provider.load.sql.plan import WriteDisposition
        from voiceos_provider.transform.schema import CONVERSATIONS
        from voiceos_provider.utils.databases import find_database

        if self.write_disposition not in get_args(WriteDisposition):
            raise VoiceOSValueError(
                f"write_disposition {self.write_disposition!r} is not one of "
                f"{', '.join(get_args(WriteDisposition))}."
            )
        find_database(self.sql_conn_id, dialect=self.dialect, hook_params=self.hook_params)
        options = self.hook.options(
            resolve_interval(self.interval_start, self.interval_end, context, lookback=self.lookback),
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
        if options.carry_pending is None:
            return options
        if self.write_disposition != "merge":
            raise VoiceOSValueError(
                f"carry_pending needs write_disposition 'merge', not {self.write_disposition!r}: it updates existing "
                "rows."
            )
        if options.statuses or CONVERSATIONS not in options.tables:
            raise VoiceOSValueError(
                "carry_pending needs every state and the table 'conversations': it finds the conversations whose rows "
                "have not ended. Leave status out, and add the table to tables."
            )
        return options

    def export(self, context: Context) -> dict[str, Any]:
        """Read, then load; a retry resumes where it can, a clear starts over, and both leave the same rows."""
        from voiceos_provider.load.sql import dialect_named
        from voiceos_provider.load.sql.destination import SqlDestination
        from voiceos_provider.load.sql.dialect import STAMP
        from voiceos_provider.load.sql.plan import Namespace
        from voiceos_provider.utils.databases import find_database
        from voiceos_provider.utils.resume import workdir_for

        with fail_without_retry(), self.hook as hook:
            options = self.export_options(context)
            database = find_database(self.sql_conn_id, dialect=self.dialect, hook_params=self.hook_params)
            namespace = Namespace(_name(self.schema), _name(self.table_prefix) or "")
            stamp = f"{datetime.now(UTC):{STAMP}}"
            destination = SqlDestination(
                database.connect,
                dialect_named(database.dialect, stamp=stamp, placeholder=database.placeholder),
                namespace,
                uri=database.uri(namespace.schema, namespace.prefix + options.tables[0].name),
                write_disposition=self.write_disposition,
                create_tables=self.create_tables,
                lock_timeout=self.lock_timeout,
                now=lambda: datetime.now(UTC),
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
        return receipt.summary()


def _name(rendered: str | None) -> str | None:
    return None if rendered in (None, "", "None") else str(rendered)
