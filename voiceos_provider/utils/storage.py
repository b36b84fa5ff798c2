"""Paths of object stores, opened with an Airflow connection."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook, ObjectStoragePath

from voiceos_provider.utils.errors import missing_connection


def open_path(path: str, storage_conn_id: str | None) -> ObjectStoragePath:
    """Open the filesystem of a path or URL.

    :param storage_conn_id: the Connection of the store; None for the store's default credentials
    :raises AirflowNotFoundException: if there is no such Connection
    :raises VoiceOSValueError: if the path is unsafe, its filesystem unknown, or the package of that not installed
    """
    from voiceos_provider.load.files.layout import require_safe
    from voiceos_provider.load.files.store import cannot_open

    require_safe(path)
    if storage_conn_id:
        # Airflow's paths take an unknown id for none, and would use whatever credentials lie around.
        try:
            BaseHook.get_connection(storage_conn_id)
        except AirflowNotFoundException as error:
            raise missing_connection(storage_conn_id, parameter="storage_conn_id") from error
    try:
        root = ObjectStoragePath(path if "://" in path else f"file://{path}", conn_id=storage_conn_id)
        root.fs  # noqa: B018  loads the store's package
    except (ImportError, ValueError) as error:
        raise cannot_open(path, error) from error
    return root
