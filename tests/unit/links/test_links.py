"""Links of a task."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import Asset

from voiceos_provider.links import voiceos as links
from voiceos_provider.links.voiceos import VoiceOSFilesLink, VoiceOSManifestLink
from voiceos_provider.transfers.voiceos_to_object_storage import VoiceOSToObjectStorageOperator

IS_AIRFLOW_3 = Asset.__name__ == "Asset"


def link_for(monkeypatch: pytest.MonkeyPatch, link: Any, returned: Any) -> str:
    """Return the link of a task with this result."""
    monkeypatch.setattr(links.XCom, "get_value", lambda **_: returned)  # which Airflow 2 reads
    address: str = link.get_link(SimpleNamespace(receipt=returned) if IS_AIRFLOW_3 else None, ti_key=None)
    return address


@pytest.mark.parametrize(
    ("target", "files", "manifest"),
    [
        (
            "s3://my-bucket/voice os",
            "https://s3.console.aws.amazon.com/s3/buckets/my-bucket?prefix=voice%20os/",
            "https://s3.console.aws.amazon.com/s3/object/my-bucket?prefix=voice%20os/_manifests/a.json",
        ),
        (
            "gcs://my-bucket/voiceos",
            "https://console.cloud.google.com/storage/browser/my-bucket/voiceos",
            "https://console.cloud.google.com/storage/browser/_details/my-bucket/voiceos/_manifests/a.json",
        ),
        ("/data/voiceos", "", ""),
        ("abfs://box/voiceos", "", ""),
    ],
)
def test_links_lead_to_the_console_of_the_store(
    monkeypatch: pytest.MonkeyPatch, target: str, files: str, manifest: str
) -> None:
    """Airflow shows no button for a store without one."""
    receipt = {"target": target, "manifest": f"{target}/_manifests/a.json"}
    assert link_for(monkeypatch, VoiceOSFilesLink(), receipt) == files
    assert link_for(monkeypatch, VoiceOSManifestLink(), receipt) == manifest


def test_task_of_airflow_3_reads_no_xcom(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator has the receipt, or has failed without one."""
    monkeypatch.setattr(
        links.XCom, "get_value", lambda **_: pytest.fail("XCom was read") if IS_AIRFLOW_3 else None
    )
    operator = VoiceOSToObjectStorageOperator(task_id="export", path="s3://my-bucket/voiceos")
    for link in operator.operator_extra_links:
        assert link.get_link(operator, ti_key=None) == ""  # type: ignore[arg-type]
    operator.receipt = {
        "target": "s3://my-bucket/voiceos",
        "manifest": "s3://my-bucket/voiceos/_manifests/a.json",
    }
    for link in operator.operator_extra_links:
        assert "my-bucket" in link.get_link(operator, ti_key=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("returned", [None, {}, {"target": None, "manifest": None}])
def test_task_without_a_receipt_has_no_link(monkeypatch: pytest.MonkeyPatch, returned: Any) -> None:
    """It may not have run, or not store its result."""
    assert link_for(monkeypatch, VoiceOSFilesLink(), returned) == ""
    assert link_for(monkeypatch, VoiceOSManifestLink(), returned) == ""


def test_operator_has_both_links() -> None:
    """Their names are readable."""
    names = [link.name for link in VoiceOSToObjectStorageOperator.operator_extra_links]
    assert names == ["Exported files", "Export manifest"]
