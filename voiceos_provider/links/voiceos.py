"""Where in a browser is what a task has exported?"""

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
"""Other names of a store, and the usual one."""


class VoiceOSFilesLink(BaseOperatorLink):
    """To the folder that holds the exported files, in the console of S3 or GCS.

    Other stores have no address that a browser can open without knowing more, so their tasks have no such link.
    """

    name = "Exported files"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """The address; empty if there is none."""
        return _link(_FOLDERS, _receipt(ti_key).get("target"))


class VoiceOSManifestLink(BaseOperatorLink):
    """To the manifest of the export, in the console of S3 or GCS."""

    name = "Export manifest"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """The address; empty if there is none."""
        return _link(_OBJECTS, _receipt(ti_key).get("manifest"))


def _receipt(ti_key: TaskInstanceKey) -> dict[str, Any]:
    """What the task has returned; nothing, if it has not succeeded or keeps its result to itself."""
    returned = XCom.get_value(ti_key=ti_key, key="return_value")
    return returned if isinstance(returned, dict) else {}


def _link(addresses: dict[str, str], uri: str | None) -> str:
    parts = urlsplit(uri or "")
    address = addresses.get(SPELLINGS.get(parts.scheme, parts.scheme))
    if address is None:
        return ""
    return address.format(bucket=quote(parts.netloc), key=quote(parts.path.strip("/")))
