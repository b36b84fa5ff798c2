"""Sources and staging models of the dbt package, from the columns' declaration; the cookbook's SQL, from its marts."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2
import yaml

from voiceos_provider.transform import TABLES, Column, Table
from voiceos_provider.transform.schema import COMPONENTS, CONVERSATIONS

ROOT = Path(__file__).resolve().parents[2]
PACKAGE, COOKBOOK = ROOT / "dbt", ROOT / "docs" / "cookbook.md"
STAGING, MARTS = PACKAGE / "models" / "staging", PACKAGE / "models" / "marts"

_HEAD = "written by `python -m docs.tools.dbt_package --write`, checked by a test"
_PREFIX = "stg_voiceos__"
_TYPES = {
    "text": "varchar",
    "instant": "timestamp with time zone",
    "money": "numeric(38, 24)",
    "number": "double precision",
    "count": "bigint",
    "flag": "boolean",
    "json": "json",
}
_CLOSED = {"component": list(COMPONENTS), "unit": ["seconds", "characters", "tokens"]}
"""Values that the provider chooses, so that no others can come."""

_REFERENCES = {
    "conversation_id": (f"{_PREFIX}conversations", "id"),
    "agent_config_hash": (f"{_PREFIX}agent_configs", "agent_config_hash"),
}
_BLOCK = re.compile(r"(<!-- model: (\w+),[^\n]*-->\n\n```sql\n).*?(?=^```$)", re.DOTALL | re.MULTILINE)


def files() -> dict[Path, str]:
    """Return every generated file with its current text."""
    found = {
        STAGING / "_voiceos__sources.yml": _yaml({"sources": [_source()]}),
        STAGING / "_voiceos__staging.yml": _yaml({"models": [_model(table) for table in TABLES]}),
        COOKBOOK: _BLOCK.sub(lambda match: f"{match[1]}{in_duckdb(match[2])};\n", COOKBOOK.read_text()),
    }
    for table in TABLES:
        found[STAGING / f"{_PREFIX}{table.name}.sql"] = _staging(table)
    return found


def in_duckdb(model: str) -> str:
    """Return the SQL of a mart as DuckDB reads it, on the tables themselves."""
    return _render(model, ref=lambda name: name.removeprefix(_PREFIX))


def lineage() -> dict[str, set[str]]:
    """Return the models that each mart reads."""
    found: dict[str, set[str]] = {}
    for mart in sorted(MARTS.glob("*.sql")):
        read = found[mart.stem] = set()

        def ref(name: str, read: set[str] = read) -> str:
            read.add(name)
            return name

        _render(mart.stem, ref=ref)
    return found


def _render(model: str, **names: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([MARTS, PACKAGE / "macros"]), undefined=jinja2.StrictUndefined
    )
    variables = yaml.safe_load((PACKAGE / "dbt_project.yml").read_text())["vars"]["voiceos"]
    macros: dict[str, Any] = {}

    def dispatch(name: str, package: str) -> Any:
        return macros.get(f"duckdb__{name}") or macros[f"default__{name}"]

    environment.globals |= {
        "adapter": SimpleNamespace(dispatch=dispatch),
        "dbt": SimpleNamespace(
            date_trunc=lambda part, column: f"date_trunc('{part}', {column})",
            dateadd=lambda part, number, column: (
                f"{column} {'+' if number > 0 else '-'} INTERVAL {abs(number)} {part}"
            ),
            hash=lambda column: f"md5({column})",
        ),
        "var": variables.__getitem__,
    }
    macros.update(vars(environment.get_template("cross_database.sql").module))
    return environment.get_template(f"{model}.sql").render(voiceos=SimpleNamespace(**macros), **names)


def _source() -> dict[str, Any]:
    return {
        "name": "voiceos",
        "description": "Tables that the VoiceOS provider for Apache Airflow writes.",
        "database": '{{ var("voiceos_database", target.database) }}',
        "schema": '{{ var("voiceos_schema", target.schema) }}',
        "tables": [_source_table(table) for table in TABLES],
    }


def _source_table(table: Table) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": table.name,
        "identifier": f'{{{{ var("voiceos_table_prefix") }}}}{table.name}',
        "description": table.description,
    }
    if table is CONVERSATIONS:  # rows of the other tables are not written again if nothing has changed
        described["config"] = {
            "loaded_at_field": "_exported_at",
            "freshness": {
                f"{level}_after": {
                    "count": f'{{{{ var("voiceos_{level}_after_hours") | as_number }}}}',
                    "period": "hour",
                }
                for level in ("warn", "error")
            },
        }
    return described | {"columns": [_column(column, _TYPES[column.kind.name]) for column in table.columns]}


def _model(table: Table) -> dict[str, Any]:
    described: dict[str, Any] = {"name": f"{_PREFIX}{table.name}", "description": table.description}
    if len(table.key) > 1:
        described["data_tests"] = [{"unique_together": {"arguments": {"columns": list(table.key)}}}]
    columns = []
    for column in table.columns:
        type_ = "timestamp" if column.kind.name == "instant" else _TYPES[column.kind.name]
        tests = [*_tests(table, column)]
        columns.append(_column(column, type_) | ({"data_tests": tests} if tests else {}))
    return described | {"columns": columns}


def _column(column: Column, type_: str) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": column.name,
        "description": column.description,
        "data_type": type_,
    }
    return described | ({"config": {"meta": {"pii": column.pii}}} if column.pii else {})


def _tests(table: Table, column: Column) -> Iterator[str | dict[str, Any]]:
    if not column.nullable:
        yield "not_null"
    if table.key == (column.name,):
        yield "unique"
    if values := _CLOSED.get(column.name):
        yield {"accepted_values": {"arguments": {"values": values}}}
    if column.documented_values:  # newer values may come
        values = sorted(column.documented_values)
        yield {"accepted_values": {"arguments": {"values": values}, "config": {"severity": "warn"}}}
    if column.name in _REFERENCES and table.key != (column.name,):
        model, field = _REFERENCES[column.name]
        yield {"relationships": {"arguments": {"to": f"ref('{model}')", "field": field}}}


def _staging(table: Table) -> str:
    columns = [
        f"{{{{ voiceos.utc('{column.name}') }}}} AS {column.name}"
        if column.kind.name == "instant"
        else column.name
        for column in table.columns
    ]
    listed = ",\n    ".join(columns)
    return f"{{# {_HEAD} #}}\nSELECT\n    {listed}\nFROM {{{{ source('voiceos', '{table.name}') }}}}\n"


def _yaml(content: dict[str, Any]) -> str:
    written = yaml.safe_dump({"version": 2} | content, sort_keys=False, width=120, allow_unicode=True)
    return f"# {_HEAD}\n{written}"


if __name__ == "__main__":
    for path, text in files().items():
        if "--write" in sys.argv:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            where = path.relative_to(ROOT)
            raise SystemExit(f"{where} is outdated; run: python -m docs.tools.dbt_package --write")
