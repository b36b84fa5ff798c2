"""Directories of an export."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory for work directories."""
    folder = tmp_path / "workdir"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the path of the exports."""
    return tmp_path / "exports"
