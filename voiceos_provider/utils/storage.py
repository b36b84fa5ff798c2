"""Paths of object stores, opened with an Airflow connection."""

from __future__ import annotations

import json
from typing import Any

from airflow.providers.common.compat.sdk import ObjectStoragePath

from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.utils.errors import get_connection


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
        get_connection(storage_conn_id, parameter="storage_conn_id")
    try:
        root = ObjectStoragePath(path if "://" in path else f"file://{path}", conn_id=storage_conn_id)
        root.fs  # noqa: B018  loads the store's package
    except (ImportError, ValueError) as error:
        raise cannot_open(path, error) from error
    return root


def delta_storage_options(path: str, storage_conn_id: str | None) -> dict[str, str]:
    """Return the options with which the deltalake package opens a path, from an Airflow connection.

    :param storage_conn_id: the Connection of the store; None for the store's default credentials
    :raises AirflowNotFoundException: if there is no such Connection
    :raises VoiceOSValueError: if a Connection cannot be used for this kind of path
    """
    if not storage_conn_id:
        return {}
    connection = get_connection(storage_conn_id, parameter="storage_conn_id")
    match path.partition("://")[0]:
        case "s3" | "s3a":
            options = _s3_options(storage_conn_id)
        case "gs":
            options = _google_options(connection.extra_dejson)
        case "abfs" | "abfss" | "az" | "adl":
            options = _azure_options(connection)
        case _:
            raise VoiceOSValueError(
                f"storage_conn_id cannot be used with the path {path!r}; write s3://, gs:// or abfss://, or leave "
                "storage_conn_id out and set storage_options."
            )
    return {name: str(value) for name, value in options.items() if value}


def _s3_options(aws_conn_id: str) -> dict[str, Any]:
    try:
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook
    except ImportError as error:
        raise VoiceOSValueError(
            f"storage_conn_id {aws_conn_id!r} needs Airflow's Amazon provider: {error}; "
            "pip install 'airflow-provider-voiceos[s3]'."
        ) from error
    hook = S3Hook(aws_conn_id=aws_conn_id)
    session, config = hook.get_session(), hook.conn_config
    endpoint = config.get_service_endpoint_url(service_name="s3")
    options: dict[str, Any] = {
        "AWS_REGION": session.region_name,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true" if endpoint and endpoint.startswith("http://") else None,
        "AWS_ALLOW_INVALID_CERTIFICATES": "true" if hook.verify is False else None,
    }
    if (credentials := session.get_credentials()) is None:
        return options | {"AWS_SKIP_SIGNATURE": "true"}
    keys = credentials.get_frozen_credentials()
    return options | {
        "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret_key,
        "AWS_SESSION_TOKEN": keys.token,
    }


def _google_options(extra: dict[str, Any]) -> dict[str, Any]:
    fields = {name.removeprefix("extra__google_cloud_platform__"): value for name, value in extra.items()}
    key = fields.get("keyfile_dict")
    return {
        "google_service_account_key": json.dumps(key) if isinstance(key, dict) else key,
        "google_service_account": fields.get("key_path"),
    }


def _azure_options(connection: Any) -> dict[str, Any]:
    extra = connection.extra_dejson
    if tenant := extra.get("tenant_id"):
        # As in Airflow's hooks, login and password are then those of the application.
        host = (connection.host or "").removeprefix("https://")
        return {
            "azure_storage_account_name": extra.get("account_name") or host.partition(".")[0],
            "azure_storage_tenant_id": tenant,
            "azure_storage_client_id": connection.login,
            "azure_storage_client_secret": connection.password,
        }
    return {
        "azure_storage_account_name": extra.get("account_name") or connection.login,
        "azure_storage_account_key": extra.get("account_key") or connection.password,
        "azure_storage_sas_token": extra.get("sas_token"),
    }
