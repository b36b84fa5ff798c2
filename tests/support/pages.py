"""Blocks of code in the documentation, and whether a block is marked as not run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
"""All pages, including new ones."""

_BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+?) -->\n+)?^```(?P<language>\w+)\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """One block of code.

    :param language: the text after the backticks
    :param reason: why it is not run; empty if it is
    """

    language: str
    code: str
    reason: str


def blocks(page: Path) -> list[Block]:
    """Return the blocks of code of a page, in order."""
    found = _BLOCK.finditer(page.read_text())
    return [Block(match["language"], match["code"], match["reason"] or "") for match in found]


def name(page: Path) -> str:
    """Return the path of a page below the project."""
    return str(page.relative_to(ROOT))
