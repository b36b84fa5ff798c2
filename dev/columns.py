"""Write the table of columns into README.md, from the declaration that the code uses."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from voiceos_provider.records import CONVERSATIONS

README = Path(__file__).resolve().parents[1] / "README.md"
_BETWEEN = re.compile(r"(<!-- columns: [^\n]*-->\n).*?(<!-- end of columns -->)", re.DOTALL)


def table() -> str:
    """The columns in Markdown."""
    lines = ["| column | type | |", "|---|---|---|"]
    for column in CONVERSATIONS:
        kind = "json" if column.kind.name == "json" else str(column.kind.arrow)
        shown = {"string": "text", "timestamp[us, tz=UTC]": "timestamp, UTC"}.get(kind, kind)
        lines.append(f"| `{column.name}` | {shown} | {column.description} |")
    return "\n".join(lines) + "\n"


def with_table(text: str) -> str:
    """The README with the table in its place."""
    return _BETWEEN.sub(lambda match: f"{match[1]}{table()}{match[2]}", text)


if __name__ == "__main__":
    written = README.read_text()
    current = with_table(written)
    if "--write" in sys.argv:
        README.write_text(current)
    elif written != current:
        raise SystemExit("README.md does not show the columns there are; run: python dev/columns.py --write")
