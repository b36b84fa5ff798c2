"""Conversations as Delta Lake tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from voiceos_provider.transfers.lake import VoiceOSToLakeOperator
from voiceos_provider.utils.lakes import open_delta_lake

if TYPE_CHECKING:
    from voiceos_provider.load.lake.delta import DeltaLake


class VoiceOSToDeltaLakeOperator(VoiceOSToLakeOperator):
    """Write the conversations created in an interval to Delta Lake tables, in one commit per table.

    Tables are written with delta-rs (the extra ``delta``), without Spark. Each table has a folder below the path. The
    commit of ``conversations`` comes last, so that a conversation is never visible without its messages and costs. A
    table in which nothing has changed gets no commit.

    With `carry_pending`, rows of earlier intervals that had not ended are updated. It needs ``merge`` and every state.

    :param path: folder of the tables: ``s3://bucket/lake``, ``gs://...``, ``abfss://...`` or ``file:///data/lake``.
        (templated)
    :param storage_conn_id: the Connection of the store; None for the store's default credentials. (templated)
    :param storage_options: further options of the store, as delta-rs names them; they take precedence over those of
        the connection. (templated)
    :param kwargs: the parameters of `VoiceOSToLakeOperator`, `VoiceOSTransferOperator`, `VoiceOSExportOperator` and of
        every operator
    :return: the receipt: what was listed, exported, filtered, rejected, and per table the rows inserted, updated,
        unchanged and deleted. Without ids it is the extra of asset events.
    """

    template_fields: Sequence[str] = (
        "path",
        "storage_conn_id",
        "storage_options",
        *VoiceOSToLakeOperator.template_fields,
    )

    def __init__(
        self,
        *,
        path: str,
        storage_conn_id: str | None = None,
        storage_options: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.path = path
        self.storage_conn_id = storage_conn_id
        self.storage_options = storage_options

    def lake(self) -> DeltaLake:
        """Return the tables below the path."""
        return open_delta_lake(
            self.path,
            storage_conn_id=self.storage_conn_id,
            storage_options=self.storage_options,
            table_prefix=self.table_prefix,
        )
