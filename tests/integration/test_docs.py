"""Agreement between the pages in docs/ and the code."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from tests.support import pages
from tests.support.pages import PAGES, ROOT
from voiceos_provider.load.receipt import ExportReceipt
from voiceos_provider.transform import TABLES
from voiceos_provider.utils.connection_fields import Extras


@pytest.mark.parametrize("tool", ["tables", "commands", "pictures", "dbt_package"])
def test_generated_pages_are_current(tool: str) -> None:
    """Compare README.md and docs/ with the output of `docs/tools`."""
    result = subprocess.run(
        [sys.executable, "-m", f"docs.tools.{tool}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_outdated_table_is_reported(tmp_path: Path) -> None:
    """The check fails, and names the page and the command that updates it."""
    shutil.copytree(ROOT / "docs" / "tools", tmp_path / "docs" / "tools")
    (tmp_path / "docs" / "reference").mkdir()
    for page in ("README.md", "docs/matrix.md", "docs/reference/voiceos.odcs.yaml"):
        (tmp_path / page).write_text((ROOT / page).read_text())
    (tmp_path / "docs" / "tables.md").write_text(
        (ROOT / "docs" / "tables.md").read_text().replace("id", "no", 1)
    )
    result = subprocess.run(
        [sys.executable, "-m", "docs.tools.tables"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert "docs/tables.md is outdated" in result.stderr
    assert "python -m docs.tools.tables --write" in result.stderr


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_column_is_in_the_reference_once(table) -> None:
    """The section of its table lists it."""
    text = (ROOT / "docs" / "tables.md").read_text()
    (section,) = re.findall(rf"^## {table.name}\n(.*?)^## ", text, re.DOTALL | re.MULTILINE)
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == [column.name for column in table.columns]


def test_every_key_of_the_receipt_is_in_the_reference_once() -> None:
    """The page lists no other key."""
    text = (ROOT / "docs" / "reference" / "receipt.md").read_text()
    rows = re.findall(r"^\| (`.*?`) \|", text, re.MULTILINE)
    named = [key for row in rows for key in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(field.name for field in fields(ExportReceipt))


def test_every_connection_field_is_on_its_page() -> None:
    """The page lists no other extra."""
    text = (ROOT / "docs" / "connection.md").read_text().partition("## ")[0]
    assert sorted(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == sorted(Extras.model_fields)


@pytest.mark.parametrize("page", PAGES, ids=pages.name)
def test_every_picture_has_a_text_alternative(page: Path) -> None:
    """Screen readers need it."""
    assert "![](" not in page.read_text()


@pytest.mark.parametrize("page", PAGES, ids=pages.name)
def test_every_test_file_that_a_page_names_exists(page: Path) -> None:
    """Pages name the test that backs a promise."""
    for named in re.findall(r"`(tests/[\w/.]+)`", page.read_text()):
        assert (ROOT / named).exists(), named


@pytest.mark.parametrize("page", PAGES, ids=pages.name)
def test_relative_links_lead_to_files_and_headings(page: Path) -> None:
    """The fragment of a link is a heading of its target."""
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text()):
        path, _, fragment = target.partition("#")
        file = page.parent / path if path else page
        assert file.is_file(), target
        headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE) if fragment else []
        slugs = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
        assert not fragment or fragment in slugs, target
