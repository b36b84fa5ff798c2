"""Replacement for pip where a page is run: checks that the extras exist, and installs nothing."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


_REQUIREMENT = re.compile(
    r"(?:\.|(?:.*/)?airflow[-_]provider[-_]voiceos(?:-[\w.-]+\.whl)?)(?:\[(?P<extras>[\w,]+)\])?"
)
"""The checkout, a wheel of it, or its name in an index."""


def main() -> str | None:
    """Return an error if the page installs something that does not exist."""
    command, *words = sys.argv[1:]
    if command == "wheel":
        return None
    if command != "install":
        return f"pip {command} is not known here."
    found = [match for word in words if (match := _REQUIREMENT.fullmatch(word))]
    if not found:
        return f"pip does not install {PROJECT['name']}: {' '.join(words)}"
    extras = {extra for match in found for extra in (match["extras"] or "").split(",") if extra}
    unknown = extras - PROJECT["optional-dependencies"].keys()
    return f"There is no extra {', '.join(sorted(unknown))}." if unknown else None


if __name__ == "__main__":
    sys.exit(main())
