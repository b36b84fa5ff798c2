"""Conversations as rows of a database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from voiceos_provider.transfers.base import VoiceOSTransferOperator

if TYPE_CHECKING:
    from voiceos_provider.load.plan import WriteDisposition
    from voiceos_provider.load.sql.destination import SqlDestination
    from voiceos_provider.options import ExportOptions


class VoiceOSToSqlOperator(VoiceOSTransferOperator):
    """Load the conversations created in an interval into tables of a database: all of them, or none.

    The type of the connection selects the SQL dialect. Rows are stored on local disk until all have been read. Then
    they are staged, merged, counted and committed, in one transaction if the engine has transactions.

    With `carry_pending`, rows of earlier intervals that had not ended are updated. It needs ``merge`` and every state.
    With `max_bad_records`, conversations without a usable id are set aside in the table ``rejected_conversations``.

    :param sql_conn_id: the Connection of the database: Postgres, Redshift, MySQL, SQLite, DuckDB, Snowflake,
        BigQuery, Databricks, ClickHouse, or one whose hook is a ``DbApiHook`` and whose SQL is close to the standard;
        see docs/reference/databases.md. (templated)
    :param schema: the schema of the tables (a database in MySQL and ClickHouse, a dataset in BigQuery), which must
        exist; None for the connection's own. (templated)
    :param table_prefix: prefix of the names of the tables. (templated)
    :param lookback: how much earlier than the run's own interval to begin, as ``timedelta`` or in seconds, to update
        rows that changed after they were loaded, such as late costs. Ignored if `interval_start` is set.
    :param write_disposition: ``merge`` inserts new rows and updates changed ones, and never overwrites a newer row
        version; ``replace`` also deletes all other rows of the interval: conversations that the API does not list any
        more, and those that this export leaves out by `status` or rejects; ``append`` only inserts, and duplicates rows
        that were inserted before. ``agent_configs`` has one row per configuration in each case. (templated)
    :param kwargs: the parameters of `VoiceOSTransferOperator`, `VoiceOSExportOperator` and of every operator

    Advanced:

    :param create_tables: create missing tables and columns; your own columns are never altered or dropped
    :param lock_timeout: seconds to wait for a lock on the tables, which another export may hold
    :param dialect: SQL dialect, if the type of the connection does not select it: ``postgres`` or another name of
        `voiceos_provider.load.sql.DIALECTS`. (templated)
    :param hook_params: further arguments of the connection's own hook, such as Snowflake's ``warehouse``. (templated)
    :return: the receipt: what was listed, exported, filtered, rejected, and per table the rows inserted, updated,
        unchanged and deleted. Without ids it is the extra of asset events.
    """

    template_fields: Sequence[str] = (
        "sql_conn_id",
        "schema",
        "table_prefix",
        "write_disposition",
        "dialect",
        "hook_params",
        *VoiceOSTransferOperator.template_fields,
    )

    def __init__(
        self,
        *,
        sql_conn_id: str,
        schema: str | None = None,
        table_prefix: str = "",
        lookback: timedelta | float = timedelta(0),
        write_disposition: WriteDisposition = "merge",
        create_tables: bool = True,
        lock_timeout: float = 300,
        dialect: str | None = None,
        hook_params: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sql_conn_id = sql_conn_id
        self.schema = schema
        self.table_prefix = table_prefix
        self.lookback = lookback
        self.write_disposition = write_disposition
        self.create_tables = create_tables
        self.lock_timeout = lock_timeout
        self.dialect = dialect
        self.hook_params = hook_params

    def destination(self, options: ExportOptions) -> SqlDestination:
        """Return the tables of the database."""
        from voiceos_provider.load.plan import check_write_disposition
        from voiceos_provider.utils.databases import open_tables

        return open_tables(
            self.sql_conn_id,
            schema=_name(self.schema),
            table_prefix=_name(self.table_prefix) or "",
            dialect=self.dialect,
            hook_params=self.hook_params,
            first_table=options.tables[0].name,
            lock_timeout=self.lock_timeout,
            write_disposition=check_write_disposition(self.write_disposition, options),
            create_tables=self.create_tables,
            now=lambda: datetime.now(UTC),
        )


def _name(rendered: str | None) -> str | None:
    return None if rendered in (None, "", "None") else str(rendered)
