"""Options with which delta-rs opens a store, from Airflow connections."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException

from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.utils.storage import delta_storage_options

Connect = Callable[..., str]


def test_store_without_a_connection_finds_its_own_credentials() -> None:
    """The role of the machine is an example."""
    assert delta_storage_options("s3://bucket/lake", None) == {}


def test_aws_connection_becomes_keys_region_and_endpoint(connect: Connect) -> None:
    """A plain HTTP endpoint is allowed, because the connection names it."""
    extra = {"endpoint_url": "http://minio:9000", "region_name": "eu-central-1", "aws_session_token": "token"}
    connect("minio", conn_type="aws", login="key", password="secret", extra=extra)
    assert delta_storage_options("s3://bucket/lake", "minio") == {
        "AWS_REGION": "eu-central-1",
        "AWS_ENDPOINT_URL": "http://minio:9000",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_SESSION_TOKEN": "token",
    }


def test_google_connection_becomes_a_service_account(connect: Connect) -> None:
    """Its key is a file, or JSON in the connection."""
    connect("file", conn_type="google_cloud_platform", extra={"key_path": "/keys/lake.json"})
    connect(
        "inline", conn_type="google_cloud_platform", extra={"keyfile_dict": '{"type": "service_account"}'}
    )
    assert delta_storage_options("gs://bucket/lake", "file") == {"google_service_account": "/keys/lake.json"}
    assert delta_storage_options("gs://bucket/lake", "inline") == {
        "google_service_account_key": '{"type": "service_account"}'
    }


def test_azure_connection_becomes_an_account_key_or_an_application(connect: Connect) -> None:
    """With a tenant, login and password are those of the application, as in Airflow's hooks."""
    connect("key", conn_type="wasb", login="account", password="key")
    connect(
        "application",
        conn_type="wasb",
        host="https://account.blob.core.windows.net",
        login="client",
        password="secret",
        extra={"tenant_id": "tenant"},
    )
    assert delta_storage_options("abfss://lake@account.dfs.core.windows.net/x", "key") == {
        "azure_storage_account_name": "account",
        "azure_storage_account_key": "key",
    }
    assert delta_storage_options("abfss://lake@account.dfs.core.windows.net/x", "application") == {
        "azure_storage_account_name": "account",
        "azure_storage_tenant_id": "tenant",
        "azure_storage_client_id": "client",
        "azure_storage_client_secret": "secret",
    }


def test_unusable_connection_is_rejected(connect: Connect) -> None:
    """It does not exist, or the path is on local disk."""
    with pytest.raises(AirflowNotFoundException, match="storage_conn_id names it"):
        delta_storage_options("s3://bucket/lake", "missing")
    connect("minio", conn_type="aws", login="key", password="secret")
    with pytest.raises(VoiceOSValueError, match="cannot be used with the path '/data/lake'"):
        delta_storage_options("/data/lake", "minio")
