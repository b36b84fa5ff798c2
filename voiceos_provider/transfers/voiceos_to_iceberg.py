"""Conversations as rows of Iceberg tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.transfers.lake import VoiceOSToLakeOperator
from voiceos_provider.utils.errors import missing_connection

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
        try:
            from voiceos_provider.load.lake.iceberg import IcebergLake, embedded_catalog
        except ModuleNotFoundError as error:
            raise VoiceOSValueError(
                f"Iceberg needs PyIceberg: {error}. Install airflow-provider-voiceos[iceberg]."
            ) from None

        if self.iceberg_conn_id and self.warehouse:
            raise VoiceOSValueError("Set iceberg_conn_id or warehouse, not both.")
        properties: Mapping[str, str] | None = None
        if self.iceberg_conn_id:
            properties = catalog_properties(self.iceberg_conn_id)
        elif self.warehouse:
            properties = embedded_catalog(self.warehouse)
        return IcebergLake(
            self.catalog or self.iceberg_conn_id or "default",
            namespace=self.namespace,
            table_prefix=self.table_prefix,
            properties=properties,
        )


def catalog_properties(iceberg_conn_id: str) -> Mapping[str, str]:
    """Return the properties of PyIceberg's catalog that a Connection describes, as Airflow's own hook reads it.

    :raises AirflowNotFoundException: if there is no such Connection
    :raises VoiceOSValueError: if it has another type
    """
    try:
        connection = BaseHook.get_connection(iceberg_conn_id)
    except AirflowNotFoundException as error:
        raise missing_connection(iceberg_conn_id, parameter="iceberg_conn_id", conn_type="Iceberg") from error
    if connection.conn_type not in ("iceberg", "generic", "", None):
        raise VoiceOSValueError(
            f"Connection {iceberg_conn_id!r} has the type {connection.conn_type!r}. Choose the type Iceberg."
        )
    properties = {str(name): str(value) for name, value in connection.extra_dejson.items()}
    if connection.host:
        properties["uri"] = connection.host
    is_rest = properties.get("type", "rest") == "rest" and "catalog-impl" not in properties
    if connection.login and is_rest:
        properties["credential"] = f"{connection.login}:{connection.password or ''}"
    elif connection.password and is_rest:
        properties["token"] = connection.password
    return properties
