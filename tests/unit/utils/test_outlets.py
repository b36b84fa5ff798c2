"""Asset events of an export."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import Asset

from tests.support.exporting import export_pages, page
from voiceos_provider.utils.outlets import EXPORTS, emit_asset_events


class Events:
    """The accessors of outlets in a task's context. In Airflow 3.1, outlets cannot be keys of a dict."""

    def __init__(self) -> None:
        self._of: dict[str, Any] = {}

    def __getitem__(self, outlet: Any) -> Any:
        added: list[str] = []
        event = SimpleNamespace(extra={}, added=added, add=lambda asset, extra: added.append(asset.uri))
        return self._of.setdefault(outlet.uri if isinstance(outlet, Asset) else outlet.name, event)


@pytest.mark.parametrize(
    "folder", ["calls", "calls#eu", "calls?eu", "calls eu", "calls=eu", "[calls]", "100%"]
)
def test_each_path_is_its_own_asset(tmp_path: Path, folder: str) -> None:
    """Special characters do not truncate it, which would give the asset of another path."""
    root, events = tmp_path / folder, Events()
    emit_asset_events({"outlet_events": events}, [EXPORTS], export_pages([page()], root))
    expected = str(root).replace("#", "%23").replace("?", "%3F")
    assert events[EXPORTS].added == [f"file://{expected}"]


def test_path_that_is_already_an_outlet_has_one_event(tmp_path: Path) -> None:
    """Its extra is the receipt."""
    outlet, events = Asset(f"file://{tmp_path}"), Events()
    emit_asset_events({"outlet_events": events}, [outlet, EXPORTS], export_pages([page()], tmp_path))
    assert events[EXPORTS].added == []
    assert events[outlet].extra["exported"] == 0
