"""Links from a task to the files that it has exported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, TaskInstanceKey

_FOLDERS = {
    "s3": "https://s3.console.aws.amazon.com/s3/buckets/{bucket}?prefix={key}/",
    "gs": "https://console.cloud.google.com/storage/browser/{bucket}/{key}",
}
_OBJECTS = {
    "s3": "https://s3.console.aws.amazon.com/s3/object/{bucket}?prefix={key}",
    "gs": "https://console.cloud.google.com/storage/browser/_details/{bucket}/{key}",
}
SPELLINGS = {"s3a": "s3", "gcs": "gs"}
"""Other names of a scheme, and the usual one."""


class VoiceOSFilesLink(BaseOperatorLink):
    """Link to the folder of the exported files, in the console of S3 or GCS; other stores have no such page."""

    name = "Exported files"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the address, or an empty text if there is none."""
        return _link(_FOLDERS, _receipt(operator, ti_key).get("target"))


class VoiceOSManifestLink(BaseOperatorLink):
    """Link to the manifest of the export, in the console of S3 or GCS."""

    name = "Export manifest"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the address, or an empty text if there is none."""
        return _link(_OBJECTS, _receipt(operator, ti_key).get("manifest"))


def links_for(target: str) -> tuple[BaseOperatorLink, ...]:
    """Return the links that have an address for a target. Airflow 3 would store the others as empty XComs."""
    return (VoiceOSFilesLink(), VoiceOSManifestLink()) if _link(_FOLDERS, target) else ()


def _receipt(operator: Any, ti_key: TaskInstanceKey) -> dict[str, Any]:
    """Return the receipt of a task: on Airflow 3 from the operator that has just run, on Airflow 2 from XCom."""
    receipt: dict[str, Any] = getattr(operator, "receipt", None) or {}
    if receipt or hasattr(BaseOperatorLink, "xcom_key"):  # Airflow 3 stores the links when the task ends
        return receipt
    returned = XCom.get_value(ti_key=ti_key, key="return_value")
    return returned if isinstance(returned, dict) else {}


def _link(addresses: dict[str, str], uri: str | None) -> str:
    parts = urlsplit(uri or "")
    address = addresses.get(SPELLINGS.get(parts.scheme, parts.scheme))
    if address is None:
        return ""
    return address.format(bucket=quote(parts.netloc), key=quote(parts.path.strip("/")))
