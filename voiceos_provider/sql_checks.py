"""Checks of the database tables as data for `SQLColumnCheckOperator` and `SQLTableCheckOperator` of common.sql.

They are made from the declaration of the columns. Importing this module loads neither Arrow nor pandas.
"""

from __future__ import annotations

from typing import Any

from voiceos_provider.transform.schema import COUNT, MONEY, NUMBER, Table, choose_tables

_AMOUNTS = (COUNT, MONEY, NUMBER)


def column_checks(table: str = "conversations") -> dict[str, dict[str, dict[str, Any]]]:
    """Return the `column_mapping` of `SQLColumnCheckOperator` for a table.

    Columns that are never null have no nulls, a key of one column has no duplicates, and amounts are not negative.

    :param table: ``conversations``, ``conversation_costs``, ``conversation_messages`` or ``agent_configs``
    :raises VoiceOSValueError: if the table does not exist
    """
    (declared,) = choose_tables([table])
    checks: dict[str, dict[str, dict[str, Any]]] = {}
    for column in declared.columns:
        found: dict[str, dict[str, Any]] = {}
        if not column.nullable:
            found["null_check"] = {"equal_to": 0}
        if declared.key == (column.name,):
            found["unique_check"] = {"equal_to": 0}
        if column.kind in _AMOUNTS:
            found["min"] = {"geq_to": 0}
        if found:
            checks[column.name] = found
    return checks


def table_checks(
    table: str = "conversations", *, name: str, documented_values: bool = False
) -> dict[str, dict[str, str]]:
    """Return the `checks` of `SQLTableCheckOperator` for a table. All of them pass on an empty table.

    :param table: ``conversations``, ``conversation_costs``, ``conversation_messages`` or ``agent_configs``
    :param name: the table's name in the database, with its schema and `table_prefix`; `unique_key` counts over all
        of its rows, also where the operator has a `partition_clause`
    :param documented_values: also check that enums have documented values only. A failure is not always an error, since
        the API may add values at any time.
    :raises VoiceOSValueError: if the table does not exist
    """
    (declared,) = choose_tables([table])
    violations = {"interval_in_order": "_interval_start >= _interval_end"}
    if table == "conversations":
        violations["end_after_start"] = "ended_at < started_at"
        violations["ended_with_end"] = "status = 'ended' AND ended_at IS NULL"
    if documented_values:
        for column in declared.columns:
            if column.documented_values:
                values = ", ".join(f"'{value}'" for value in sorted(column.documented_values))
                violations[f"{column.name}_documented"] = f"{column.name} NOT IN ({values})"
    checks = {
        check: f"COUNT(CASE WHEN {violation} THEN 1 END) = 0" for check, violation in violations.items()
    }
    checks["unique_key"] = _unique_key(declared, name)
    return {check: {"check_statement": statement} for check, statement in checks.items()}


def _unique_key(table: Table, name: str) -> str:
    key = ", ".join(table.key)
    duplicates = f"SELECT 1 AS duplicate FROM {name} GROUP BY {key} HAVING COUNT(*) > 1"
    # The first condition makes the statement an aggregate, which has a result for an empty table, too.
    return f"COUNT(*) >= 0 AND (SELECT COUNT(*) FROM ({duplicates}) AS duplicates) = 0"
