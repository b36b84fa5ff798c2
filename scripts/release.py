"""Release check: the tag is the package's version, and the changelog has a section for it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from_root = Path(__file__).resolve().parents[1].joinpath


def objection(tag: str, *, version: str, changelog: str) -> str | None:
    """Return the reason not to release a tag, or None."""
    if tag != f"v{version}":
        return f"The tag is {tag}, the package's version {version}; tag v{version}, or set __version__."
    if not re.search(rf"^## {re.escape(version)}\b", changelog, re.MULTILINE):
        return f"CHANGELOG.md has no section {version}; rename Unreleased."
    return None


def main(tag: str) -> int:
    """Print the result; return 0 if the tag may be released."""
    source = from_root("voiceos_provider", "__init__.py").read_text()
    (version,) = re.findall(r'^__version__ = "([^"]+)"', source, re.MULTILINE)
    wrong = objection(tag, version=version, changelog=from_root("CHANGELOG.md").read_text())
    print(wrong or f"{tag} may be released.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
