"""docs/tables.md, from the declaration that the code uses, and the README's table of versions, from docs/matrix.md."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime
from pathlib import Path

from voiceos_provider.interval import Interval
from voiceos_provider.load.files import layout
from voiceos_provider.load.files.formats import Encoding
from voiceos_provider.transform import TABLES, Column, Table

ROOT = Path(__file__).resolve().parents[2]
README, REFERENCE = ROOT / "README.md", ROOT / "docs" / "tables.md"
MATRIX = ROOT / "docs" / "matrix.md"

_BETWEEN = re.compile(r"(<!-- versions: [^\n]*-->\n).*?(<!-- end of versions -->)", re.DOTALL)
_DAY = Interval(datetime(2026, 11, 20, tzinfo=UTC), datetime(2026, 11, 21, tzinfo=UTC))
_TYPES = {"text": "text", "instant": "timestamp, UTC", "json": "text, JSON"}
_PERSONAL = {
    "phone_numbers": "`keep`, `drop` or `hash`. Unless they are kept, what may be one is masked in `extra`, and under "
    "unknown keys of `agent_configs.agent_config`.",
    "messages": "`keep` or `drop`. How many there were and whose they are remains. Dropped, texts under unknown keys "
    "are masked in `conversations.extra`.",
    "prompts": "`keep` or `drop`; their hashes remain. Dropped, they are masked in `agent_configs.agent_config` too, "
    "and so are texts under unknown keys there and in `conversations.extra`.",
}


def reference() -> str:
    """Return the page of all tables and columns."""
    parts = [
        "# Tables",
        "<!-- written by `python -m docs.tools.tables --write`, checked by a test -->",
        "An export writes these tables. Each is a folder of files, one file per interval.",
        summary("#").rstrip(),
        "A column is null where the API sent nothing, or nothing that the column can hold exactly; what it sent is "
        "then in `extra`, or for a\nconfiguration in `agent_configs.agent_config`. A date-time is held to the "
        "microsecond.\nColumns whose name begins with `_` say which export a row comes from.",
        *(_section(table) for table in TABLES),
        _people(),
        _files(),
        "Ten questions that these tables answer are in the [cookbook](cookbook.md).",
    ]
    return "\n\n".join(parts) + "\n"


def summary(link: str) -> str:
    """Return a Markdown table with one row per table."""
    lines = ["| table | | key | columns |", "|---|---|---|---:|"]
    for table in TABLES:
        key = ", ".join(f"`{name}`" for name in table.key)
        name = f"[`{table.name}`]({link}{table.name})"
        lines.append(f"| {name} | {table.description} | {key} | {len(table.columns)} |")
    return "\n".join(lines) + "\n"


def in_readme(text: str) -> str:
    """Return the README with the current table of Airflow and Python versions."""
    (versions, *_) = re.findall(r"^\| Airflow \| Python.*?\n\n", MATRIX.read_text(), re.DOTALL | re.MULTILINE)
    block = f"\n{versions}[How these were tested](docs/matrix.md).\n\n"
    return _BETWEEN.sub(lambda match: f"{match[1]}{block}{match[2]}", text)


def _section(table: Table) -> str:
    key = ", ".join(f"`{name}`" for name in table.key)
    lines = [
        f"## {table.name}\n\n{table.description} Key: {key}, within one export.\n",
        "| column | type | null | sent as | personal | |",
        "|---|---|---|---|---|---|",
        *(_line(column) for column in table.columns),
    ]
    return "\n".join(lines)


def _line(column: Column) -> str:
    kind = _TYPES.get(column.kind.name, str(column.kind.arrow))
    sent = f"`{'.'.join(column.path).replace('.[]', '[]')}`" if column.path else ""
    cells = [
        f"`{column.name}`",
        kind,
        "yes" if column.nullable else "no",
        sent,
        f"`{column.pii}`" if column.pii else "",
        f"{column.description}{_values(column)}",
    ]
    return f"| {' | '.join(cells)} |"


def _values(column: Column) -> str:
    """Return the documented values that the description does not name."""
    if all(f"`{value}`" in column.description for value in column.documented_values):
        return ""
    return f" Documented: {', '.join(f'`{value}`' for value in sorted(column.documented_values))}; others may come."


def _people() -> str:
    lines = [
        "## Personal data\n",
        "The operators' `redaction` sets what is kept of each class; by default everything is kept.\n",
        "| class | columns | |",
        "|---|---|---|",
    ]
    for name, choices in _PERSONAL.items():
        columns = [
            f"`{table.name}.{column.name}`"
            for table in TABLES
            for column in table.columns
            if column.pii == name
        ]
        lines.append(f"| `{name}` | {', '.join(columns)} | {choices} |")
    return "\n".join(lines)


def _files() -> str:
    tables = [layout.data(table.name, _DAY, ".parquet") for table in TABLES]
    suffixes = ", ".join(f"`{suffix}`" for suffix in Encoding.suffixes())
    return "\n".join(
        [
            "## Files\n",
            "Below the export's path, for the interval from 20 to 21 November 2026:\n",
            "```text",
            *tables,
            f"{layout.manifest(_DAY)}    the receipt",
            f"{layout.rejected(_DAY)}    what has no usable id, if anything",
            "```",
            "",
            f"A data file ends in one of {suffixes}.\n"
            "Names depend on the interval alone, so an export that is repeated replaces its own files.",
        ]
    )


if __name__ == "__main__":
    readme = README.read_text()
    pages = {README: (readme, in_readme(readme)), REFERENCE: (None, reference())}
    if REFERENCE.exists():
        pages[REFERENCE] = (REFERENCE.read_text(), reference())
    for page, (written, current) in pages.items():
        if "--write" in sys.argv:
            page.write_text(current)
        elif written != current:
            where = page.relative_to(ROOT)
            raise SystemExit(f"{where} is outdated; run: python -m docs.tools.tables --write")
