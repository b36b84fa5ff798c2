"""Conversations as rows of Iceberg tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from voiceos_provider.transfers.lake import VoiceOSToLakeOperator
from voiceos_provider.utils.lakes import open_iceberg_lake

if TYPE_CHECKING:
    from voiceos_provider.load.lake.iceberg import IcebergLake


class VoiceOSToIcebergOperator(VoiceOSToLakeOperator):
    """Write the conversations created in an interval to Iceberg tables, with one commit per table, conversations last.

    Rows are stored on local disk until all have been read. Then they are compared with the existing rows, and each
    table that changes gets one snapshot. The tables are partitioned by the day of ``_interval_start``. Rows are
    replaced by copy-on-write. Needs the extra ``iceberg``.

    :param iceberg_conn_id: the Connection of the catalog, of the type Iceberg: its URI as host, client id and secret as
        login and password, and further properties of PyIceberg's catalogs as extra, such as ``warehouse``, or ``type``
        for a catalog that is not REST. (templated)
    :param catalog: name of the catalog; without a Connection, that in PyIceberg's own configuration. The default is the
        id of the Connection, otherwise ``default``. An SQL catalog stores its name with each table. (templated)
    :param warehouse: instead of a Connection, a local directory with an SQL catalog in SQLite, for trials. (templated)
    :param namespace: the namespace of the tables, which is created if it is missing. (templated)
    :param kwargs: the parameters of `VoiceOSToLakeOperator`, `VoiceOSTransferOperator`, `VoiceOSExportOperator` and of
        every operator
    :return: the receipt: what was listed, exported, filtered, and per table the rows inserted, updated, unchanged and
        deleted. Without ids it is the extra of asset events.
    """

    template_fields: Sequence[str] = (
        "iceberg_conn_id",
        "catalog",
        "warehouse",
        "namespace",
        *VoiceOSToLakeOperator.template_fields,
    )

    def __init__(
        self,
        *,
        iceberg_conn_id: str | None = None,
        catalog: str | None = None,
        warehouse: str | None = None,
        namespace: str = "voiceos",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.iceberg_conn_id = iceberg_conn_id
        self.catalog = catalog
        self.warehouse = warehouse
        self.namespace = namespace

    def lake(self) -> IcebergLake:
        """Return the tables of the catalog."""
        return open_iceberg_lake(
            iceberg_conn_id=self.iceberg_conn_id,
            catalog=self.catalog,
            warehouse=self.warehouse,
            namespace=self.namespace,
            table_prefix=self.table_prefix,
        )
