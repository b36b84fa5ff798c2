"""The pages in docs/ say what the code says."""

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
    """Compare README.md and docs/ with what `docs/tools` writes from the code."""
    result = subprocess.run(
        [sys.executable, "-m", f"docs.tools.{tool}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_a_table_that_changes_is_noticed(tmp_path: Path) -> None:
    """The check fails, and names the page and the cure, once a page says something else."""
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
def test_every_column_is_in_the_reference(table) -> None:
    """In the section of its table, once."""
    text = (ROOT / "docs" / "tables.md").read_text()
    (section,) = re.findall(rf"^## {table.name}\n(.*?)^## ", text, re.DOTALL | re.MULTILINE)
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == [column.name for column in table.columns]


def test_every_key_of_the_receipt_is_in_the_reference() -> None:
    """Once."""
    text = (ROOT / "docs" / "reference" / "receipt.md").read_text()
    rows = re.findall(r"^\| (`.*?`) \|", text, re.MULTILINE)
    named = [key for row in rows for key in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(field.name for field in fields(ExportReceipt))


def test_every_field_of_the_connection_is_in_its_page() -> None:
    """And no other extra is."""
    text = (ROOT / "docs" / "connection.md").read_text().partition("## ")[0]
    assert sorted(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == sorted(Extras.model_fields)


@pytest.mark.parametrize("page", PAGES, ids=pages.name)
def test_every_picture_says_what_it_shows(page: Path) -> None:
    """To a reader who hears the page."""
    assert "![](" not in page.read_text()


@pytest.mark.parametrize("page", PAGES, ids=pages.name)
def test_every_test_that_a_page_names_is_there(page: Path) -> None:
    """What backs a promise has not been renamed since."""
    for named in re.findall(r"`(tests/[\w/.]+)`", page.read_text()):
        assert (ROOT / named).exists(), named


@pytest.mark.parametrize("page", PAGES, ids=pages.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """Every relative link is a file, and its fragment a heading there."""
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text()):
        path, _, fragment = target.partition("#")
        file = page.parent / path if path else page
        assert file.is_file(), target
        headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE) if fragment else []
        slugs = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
        assert not fragment or fragment in slugs, target
