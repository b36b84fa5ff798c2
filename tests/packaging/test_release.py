"""The release check: which tags may be released."""

from __future__ import annotations

import pytest

import voiceos_provider
from scripts import release


def test_tag_of_a_version_in_the_changelog_may_be_released() -> None:
    """The tag is `v` and the version."""
    assert release.objection("v1.2.0", version="1.2.0", changelog="## Unreleased\n\n## 1.2.0\n") is None


@pytest.mark.parametrize(
    ("tag", "changelog", "said"),
    [
        ("v1.3.0", "## 1.2.0\n", "the package's version 1.2.0"),
        ("1.2.0", "## 1.2.0\n", "tag v1.2.0"),
        ("v1.2.0", "## Unreleased\n\n## 1.2.01\n", "no section 1.2.0"),
    ],
)
def test_any_other_tag_is_rejected(tag: str, changelog: str, said: str) -> None:
    """The message says what to change."""
    assert said in release.objection(tag, version="1.2.0", changelog=changelog)


def test_the_version_is_read_from_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    """The version is declared once."""
    assert release.main("v0.0.0.dev0") == 1
    assert f"the package's version {voiceos_provider.__version__};" in capsys.readouterr().out
