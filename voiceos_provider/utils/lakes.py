"""Lakes opened with an Airflow connection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.utils.errors import get_connection
from voiceos_provider.utils.storage import delta_storage_options

if TYPE_CHECKING:
    from voiceos_provider.load.lake.delta import DeltaLake
    from voiceos_provider.load.lake.iceberg import IcebergLake


def open_delta_lake(
    path: str,
    *,
    storage_conn_id: str | None = None,
    storage_options: Mapping[str, str] | None = None,
    table_prefix: str = "",
) -> DeltaLake:
    """Return the Delta Lake tables below a path, without reading anything.

    :param storage_conn_id: the Connection of the store; None for the store's default credentials
    :param storage_options: further options of the store, which take precedence
    :raises VoiceOSValueError: if the path or the Connection cannot be used
    """
    from voiceos_provider.load.files.layout import require_safe
    from voiceos_provider.load.lake.delta import DeltaLake

    def current_options() -> dict[str, str]:
        return {**delta_storage_options(path, storage_conn_id), **(storage_options or {})}

    require_safe(path)
    current_options()  # a wrong connection fails the task before it reads anything
    return DeltaLake(path, table_prefix=table_prefix, storage_options=current_options)


def open_iceberg_lake(
    *,
    iceberg_conn_id: str | None = None,
    catalog: str | None = None,
    warehouse: str | None = None,
    namespace: str = "voiceos",
    table_prefix: str = "",
    must_exist: bool = False,
) -> IcebergLake:
    """Return the Iceberg tables of a catalog, without reading anything.

    :param iceberg_conn_id: the Connection of the catalog
    :param catalog: name of the catalog; by default the id of the Connection, or `default`
    :param warehouse: a local directory with an SQL catalog, in place of a Connection
    :param must_exist: do not create the catalog of a local directory
    :raises VoiceOSValueError: if PyIceberg is not installed, or the arguments do not go together
    :raises VoiceOSExportError: if a catalog that must exist does not
    """
    try:
        from voiceos_provider.load.lake.iceberg import IcebergLake, embedded_catalog
    except ModuleNotFoundError as error:
        raise VoiceOSValueError(
            f"Iceberg needs PyIceberg: {error}. Install airflow-provider-voiceos[iceberg]."
        ) from None

    if iceberg_conn_id and warehouse:
        raise VoiceOSValueError("Set iceberg_conn_id or warehouse, not both.")
    properties: Mapping[str, str] | None = None
    if iceberg_conn_id:
        properties = catalog_properties(iceberg_conn_id)
    elif warehouse:
        properties = embedded_catalog(warehouse, must_exist=must_exist)
    return IcebergLake(
        catalog or iceberg_conn_id or "default",
        namespace=namespace,
        table_prefix=table_prefix,
        properties=properties,
    )


def catalog_properties(iceberg_conn_id: str) -> Mapping[str, str]:
    """Return the properties of PyIceberg's catalog that a Connection describes, as Airflow's own hook reads it.

    :raises AirflowNotFoundException: if there is no such Connection
    :raises VoiceOSValueError: if it has another type
    """
    connection = get_connection(iceberg_conn_id, parameter="iceberg_conn_id", conn_type="Iceberg")
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
