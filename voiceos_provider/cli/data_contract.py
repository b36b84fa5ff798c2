"""The tables as a data contract in the Open Data Contract Standard (ODCS)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from voiceos_provider import __version__

if TYPE_CHECKING:
    from voiceos_provider.transform import Column, Table

_TYPES = {
    "text": "string",
    "instant": "timestamp",
    "money": "number",
    "number": "number",
    "count": "integer",
    "flag": "boolean",
}
"""Logical types by kind. JSON has none: each database has another type for it, and some have only text."""


def odcs_yaml(tables: Sequence[Table]) -> str:
    """Return the contract of the tables as YAML."""
    import yaml

    return str(yaml.safe_dump(data_contract(tables), sort_keys=False, width=120, allow_unicode=True))


def data_contract(tables: Sequence[Table]) -> dict[str, Any]:
    """Return the contract of the tables; its server is a DuckDB file, which users replace by their own database."""
    return {
        "apiVersion": "v3.1.0",
        "kind": "DataContract",
        "id": "voiceos-conversations",
        "name": "VoiceOS conversations",
        "version": __version__,
        "status": "active",
        "description": {
            "purpose": "Conversations of VoiceOS voice agents: transcripts, costs, outcomes and configurations.",
            "limitations": "Values of an enum may be newer than the documented ones.",
        },
        "servers": [
            {"server": "warehouse", "type": "duckdb", "database": "voiceos.duckdb", "schema": "main"}
        ],
        "schema": [_table(table, tables) for table in tables],
        "slaProperties": [
            {"property": "freshness", "value": 36, "unit": "h", "element": "conversations._exported_at"}
            for table in tables
            if table.name == "conversations"
        ],
    }


def _table(table: Table, tables: Sequence[Table]) -> dict[str, Any]:
    return {
        "name": table.name,
        "logicalType": "object",
        "physicalType": "table",
        "description": table.description,
        "properties": [_property(column, table, tables) for column in table.columns],
    }


def _property(column: Column, table: Table, tables: Sequence[Table]) -> dict[str, Any]:
    described: dict[str, Any] = {"name": column.name}
    if column.kind.name in _TYPES:
        described["logicalType"] = _TYPES[column.kind.name]
    described["description"] = column.description
    if not column.nullable:
        described["required"] = True
    if column.name in table.key:
        described |= {"primaryKey": True, "primaryKeyPosition": table.key.index(column.name) + 1}
    if column.pii:
        described |= {"classification": "personal", "tags": ["pii", column.pii]}
    if column.documented_values:
        described["quality"] = [
            {
                "type": "library",
                "metric": "invalidValues",
                "arguments": {"validValues": sorted(column.documented_values)},
                "mustBe": 0,
                "severity": "warning",  # newer values may come
            }
        ]
    owner = _owner(column, table, tables)
    if owner:
        described["relationships"] = [{"to": f"{owner.name}.{owner.key[0]}"}]
    return described


def _owner(column: Column, table: Table, tables: Sequence[Table]) -> Table | None:
    """Return the table whose key the column refers to."""
    keys = {"conversation_id": "conversations", "agent_config_hash": "agent_configs"}
    return next((t for t in tables if t is not table and t.name == keys.get(column.name)), None)
