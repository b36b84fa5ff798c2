"""Base of the operators that move conversations to another system."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from voiceos_provider.operators.base import VoiceOSExportOperator
from voiceos_provider.utils.openlineage import LineageMixin
from voiceos_provider.utils.outlets import EXPORTS, emit_asset_events, partition_key_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from voiceos_provider.load.destination import Destination
    from voiceos_provider.options import ExportOptions, ReadStrategy, SchemaDrift


class VoiceOSTransferOperator(LineageMixin, VoiceOSExportOperator):
    """Parameters of every operator that moves conversations to another system, besides `VoiceOSExportOperator`'s.

    :param tables: which tables to write: ``conversations``, ``conversation_costs``, ``conversation_messages``,
        ``agent_configs``; None for all. (templated)
    :param carry_pending: how far back to request conversations of earlier intervals that had not ended, as
        ``timedelta`` or in seconds; those that have ended since are written with this interval. None to request none.

    Advanced:

    :param schema_drift: ``keep`` undocumented fields and values, and invalid values, and name them in log and receipt;
        or ``fail`` the task. (templated)
    :param max_bad_records: conversations without a usable id that may be set aside before the task fails
    :param read_strategy: ``windows`` exports every conversation of the interval exactly once. ``pages`` requests pages
        by number and lets the server filter by a single state: this takes fewer requests for a rare state, but may miss
        conversations while others are deleted or reordered. (templated)
    :param emit_asset: publish the target as an asset, through the alias ``voiceos_exports``, with the receipt as the
        extra of its event. Other `outlets` get the same extra.
    :param emit_partition_key: give the events of the assets in `outlets` the start of the interval in UTC as their
        partition key, such as ``2026-11-20T05:00:00``, so that each window of a mapped task is a partition. Needs
        Airflow 3.3, and an asset in `outlets`, since an alias has no keys of its own. Events with a partition key
        trigger only DAGs that are scheduled by partitions.
    """

    template_fields: Sequence[str] = (
        *VoiceOSExportOperator.template_fields,
        "tables",
        "schema_drift",
        "read_strategy",
    )

    def __init__(
        self,
        *,
        tables: Sequence[str] | None = None,
        carry_pending: timedelta | float | None = None,
        schema_drift: SchemaDrift = "keep",
        max_bad_records: int = 0,
        read_strategy: ReadStrategy = "windows",
        emit_asset: bool = True,
        emit_partition_key: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.tables = tables
        self.carry_pending = carry_pending
        self.schema_drift = schema_drift
        self.max_bad_records = max_bad_records
        self.read_strategy = read_strategy
        self.emit_asset = emit_asset
        self.emit_partition_key = emit_partition_key
        if emit_asset:
            self.add_outlets([EXPORTS])

    def execute(self, context: Context) -> dict[str, Any]:
        """Wait until the interval is readable, then export it."""
        receipt: dict[str, Any] = self.export_when_readable(context)
        return receipt

    def export_options(self, context: Context, **others: Any) -> ExportOptions:
        """Return the options of the export, and check the arguments."""
        partition_key_of(self, context)
        return super().export_options(
            context,
            tables=self.tables,
            carry_pending=self.carry_pending,
            schema_drift=self.schema_drift,
            max_bad_records=self.max_bad_records,
            read_strategy=self.read_strategy,
            **others,
        )

    def export(self, context: Context, options: ExportOptions, destination: Destination) -> dict[str, Any]:
        """Read, then publish; a retry resumes if it can, a cleared task starts over, and both leave the same rows."""
        from voiceos_provider.utils.resume import workdir_for

        hook = self.hook
        decisive = {
            "interval": str(options.interval),
            "account": hook.account_id,
            "key_id": options.redaction.key_id,
        }
        with workdir_for(self, context, **decisive) as workdir:
            receipt = hook.export_to(destination, options, workdir=workdir)
        emit_asset_events(context, self.outlets, receipt, partition_key=partition_key_of(self, context))
        self.report_lineage(receipt.summary(), source=hook.base_url)
        return receipt.summary()
