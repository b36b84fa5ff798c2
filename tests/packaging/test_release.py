"""Which tags may be released?"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

import voiceos_provider


@pytest.fixture(scope="module")
def release(checkout: Path) -> Any:
    """`dev/release.py`."""
    spec = importlib.util.spec_from_file_location("release", checkout / "dev" / "release.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_tag_of_the_version_that_the_changelog_names_may(release: Any) -> None:
    """Nothing speaks against it."""
    assert release.objection("v1.2.0", version="1.2.0", changelog="## Unreleased\n\n## 1.2.0\n") is None


@pytest.mark.parametrize(
    ("tag", "changelog", "said"),
    [
        ("v1.3.0", "## 1.2.0\n", "the package's version 1.2.0"),
        ("1.2.0", "## 1.2.0\n", "tag v1.2.0"),
        ("v1.2.0", "## Unreleased\n\n## 1.2.01\n", "no section 1.2.0"),
    ],
)
def test_any_other_is_refused(release: Any, tag: str, changelog: str, said: str) -> None:
    """With what to do."""
    assert said in release.objection(tag, version="1.2.0", changelog=changelog)


def test_the_version_is_read_from_the_package(release: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """It stands in one place."""
    assert release.main("v0.0.0.dev0") == 1
    assert f"the package's version {voiceos_provider.__version__};" in capsys.readouterr().out
