"""docs/tables.md and the data contract, from the columns' declaration; the README's versions, from docs/matrix.md."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime
from pathlib import Path

from voiceos_provider.cli.data_contract import odcs_yaml
from voiceos_provider.interval import Interval
from voiceos_provider.load.files import layout
from voiceos_provider.load.files.formats import Encoding
from voiceos_provider.transform import TABLES, Column, Table

ROOT = Path(__file__).resolve().parents[2]
README, REFERENCE = ROOT / "README.md", ROOT / "docs" / "tables.md"
CONTRACT = ROOT / "docs" / "reference" / "voiceos.odcs.yaml"
MATRIX = ROOT / "docs" / "matrix.md"

_BETWEEN = re.compile(r"(<!-- versions: [^\n]*-->\n).*?(<!-- end of versions -->)", re.DOTALL)
_DAY = Interval(datetime(2026, 11, 20, tzinfo=UTC), datetime(2026, 11, 21, tzinfo=UTC))
_TYPES = {"text": "text", "instant": "timestamp, UTC", "json": "text, JSON"}
_PII = {
    "phone_numbers": "`keep`, `drop` or `hash`. Unless kept, what looks like a phone number is also masked in "
    "`extra`, in "
    "metadata and in undocumented fields of `agent_configs.agent_config`.",
    "messages": "`keep` or `drop`. The number of messages and their roles remain. If dropped, texts in undocumented "
    "fields are masked in `conversations.extra`.",
    "prompts": "`keep` or `drop`; their hashes remain. If dropped, they are also masked in "
    "`agent_configs.agent_config`, and texts in undocumented fields are masked there and in `conversations.extra`.",
    "metadata": "`keep`, `drop` or `hash` each value; keys remain with `hash`.",
}
_ELSEWHERE = {"metadata": "`agent_configs.agent_config`, its key `metadata`"}
"""Classes that are no column of their own."""


def reference() -> str:
    """Return the page of all tables and columns."""
    parts = [
        "# Tables",
        "<!-- written by `python -m docs.tools.tables --write`, checked by a test -->",
        "An export writes these four tables, as folders of files, as tables of a database, or as Iceberg or Delta Lake "
        "tables.",
        summary("#").rstrip(),
        "A column is null if the API sent no value, or a value that the column cannot hold exactly. Such a value is "
        "kept in `extra`, or, for a\nconfiguration, in `agent_configs.agent_config`. Date-times have microseconds. "
        "Columns whose name starts with `_` identify the export that wrote a row.",
        *(_section(table) for table in TABLES),
        _pii(),
        _files(),
        "The [cookbook](cookbook.md) has ten queries on these tables.",
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
        "| column | type | description | sent as |",
        "|---|---|---|---|",
        *(_line(column) for column in table.columns),
    ]
    return "\n".join(lines)


def _line(column: Column) -> str:
    kind = _TYPES.get(column.kind.name, str(column.kind.arrow))
    sent = f"`{'.'.join(column.path).replace('.[]', '[]')}`" if column.path else ""
    pii = f" PII: `{column.pii}`." if column.pii else ""
    cells = [
        f"`{column.name}`",
        kind if column.nullable else f"{kind}, not null",
        f"{column.description}{_values(column)}{pii}",
        sent,
    ]
    return f"| {' | '.join(cells)} |"


def _values(column: Column) -> str:
    """Return the documented values that the description does not name."""
    if all(f"`{value}`" in column.description for value in column.documented_values):
        return ""
    return f" Documented: {', '.join(f'`{value}`' for value in sorted(column.documented_values))}; others may come."


def _pii() -> str:
    lines = [
        "## Personal data\n",
        "The parameter [`redaction`](how-to/privacy.md) of the operators selects what is kept of each class. By "
        "default, everything is kept.\n",
        "| class | columns | choices |",
        "|---|---|---|",
    ]
    for name, choices in _PII.items():
        columns = [
            f"`{table.name}.{column.name}`"
            for table in TABLES
            for column in table.columns
            if column.pii == name
        ]
        lines.append(f"| `{name}` | {', '.join(columns) or _ELSEWHERE[name]} | {choices} |")
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
            f"{layout.data(TABLES[0].name, _DAY, '.parquet', part=2)}    the second file, with target_file_bytes",
            f"{layout.data(TABLES[0].name, _DAY, '.parquet', layout='hive')}    with the layout hive",
            f"{layout.manifest(_DAY)}    the receipt",
            f"{layout.rejected(_DAY)}    conversations without a usable id, if any",
            "```",
            "",
            f"Data files end in {suffixes}.\n"
            "Names depend on the interval only, so a repeated export replaces its own files.",
        ]
    )


if __name__ == "__main__":
    pages = {README: in_readme(README.read_text()), REFERENCE: reference(), CONTRACT: odcs_yaml(TABLES)}
    for page, current in pages.items():
        written = page.read_text() if page.exists() else None
        if "--write" in sys.argv:
            page.write_text(current)
        elif written != current:
            where = page.relative_to(ROOT)
            raise SystemExit(f"{where} is outdated; run: python -m docs.tools.tables --write")
