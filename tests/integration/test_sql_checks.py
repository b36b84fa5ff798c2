"""Ready-made checks of the tables, run by Airflow's operators in real databases."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from airflow.providers.common.compat.sdk import AirflowException, BaseHook
from airflow.providers.common.sql.hooks.sql import DbApiHook
from airflow.providers.common.sql.operators.sql import (
    BaseSQLOperator,
    SQLColumnCheckOperator,
    SQLTableCheckOperator,
)

from tests.support.databases import postgres_server
from voiceos_provider.emulator import Emulator
from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.sql_checks import column_checks, table_checks
from voiceos_provider.transfers.voiceos_to_sql import VoiceOSToSqlOperator
from voiceos_provider.transform import TABLES

Day = tuple[datetime, datetime]
NAMES = [table.name for table in TABLES]
PREFIX = "calls_"
Change = Callable[..., None]


@pytest.fixture(scope="module")
def postgres_uri() -> Iterator[str]:
    """Yield a PostgreSQL server."""
    with postgres_server() as uri:
        yield uri


class SqliteHook(DbApiHook):
    """A hook for SQLite files, as in Airflow's provider for SQLite."""

    conn_name_attr = "sqlite_conn_id"

    def get_conn(self) -> Any:
        """Open the file."""
        return sqlite3.connect(self.get_connection(self.get_conn_id()).host)


@pytest.fixture(params=["sqlite", "postgres"])
def change(
    request: pytest.FixtureRequest,
    api: Emulator,
    yesterday: Day,
    connect: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[Change]:
    """Return a function that changes yesterday's export in a database."""
    if request.param == "sqlite":
        connect("calls_db", "sqlite", host=str(tmp_path / "calls.db"))
    else:
        host = parse_qs(urlsplit(request.getfixturevalue("postgres_uri")).query)["host"][0]
        connect("calls_db", "postgres", host=host, login="postgres", schema="postgres")
    load = VoiceOSToSqlOperator(
        task_id="load",
        sql_conn_id="calls_db",
        table_prefix=PREFIX,
        interval_start=yesterday[0],
        interval_end=yesterday[1],
    )
    assert load.execute({})["exported"] > 100
    if request.param == "sqlite":
        hook: Any = SqliteHook("calls_db")
        monkeypatch.setattr(BaseSQLOperator, "get_db_hook", lambda _: hook)
    else:
        hook = BaseHook.get_connection("calls_db").get_hook()

    def run(*statements: str) -> None:
        with closing(hook.get_conn()) as connection, closing(connection.cursor()) as cursor:
            for statement in statements:
                cursor.execute(statement)
            connection.commit()

    yield run
    run(*(f"DROP TABLE {PREFIX}{name}" for name in NAMES))


def check_columns(table: str, name: str) -> None:
    """Run the column checks of a table."""
    SQLColumnCheckOperator(
        task_id="columns", conn_id="calls_db", table=name, column_mapping=column_checks(table)
    ).execute({})


def check_rows(table: str, name: str) -> None:
    """Run all table checks of a table."""
    checks = table_checks(table, name=name, documented_values=True)
    SQLTableCheckOperator(task_id="rows", conn_id="calls_db", table=name, checks=checks).execute({})


def test_exports_and_empty_tables_pass_all_checks(change: Change) -> None:
    """Run the checks of all four tables."""
    for _ in range(2):
        for name in NAMES:
            check_columns(name, PREFIX + name)
            check_rows(name, PREFIX + name)
        change(*(f"DELETE FROM {PREFIX}{name}" for name in NAMES))


def test_wrong_column_fails_by_name(change: Change) -> None:
    """Nulls, duplicates and negative amounts are wrong."""
    for table, wrong, column in [
        ("conversations", "UPDATE copies SET total_cost = -1", "total_cost"),
        ("conversations", "UPDATE copies SET _exported_at = NULL", "_exported_at"),
        ("conversations", "UPDATE copies SET id = 'a'", "id"),
        ("conversation_costs", "UPDATE copies SET quantity = -0.5", "quantity"),
        ("conversation_messages", "UPDATE copies SET ordinal = -ordinal", "ordinal"),
    ]:
        change(f"CREATE TABLE copies AS SELECT * FROM {PREFIX}{table}")
        check_columns(table, "copies")
        change(wrong)
        with pytest.raises(AirflowException, match=f"(?s)tests have failed:.*Column: {column}\\b"):
            check_columns(table, "copies")
        change("DROP TABLE copies")


def test_wrong_row_fails_one_check_by_name(change: Change) -> None:
    """The other checks pass."""
    for table, wrong, check in [
        ("conversations", "UPDATE copies SET _interval_end = _interval_start", "interval_in_order"),
        ("conversations", "UPDATE copies SET started_at = _exported_at", "end_after_start"),
        ("conversations", "UPDATE copies SET ended_at = NULL", "ended_with_end"),
        ("conversations", "UPDATE copies SET ended_reason = 'bored'", "ended_reason_documented"),
        ("conversation_messages", "UPDATE copies SET role = 'supervisor'", "role_documented"),
        *((name, f"INSERT INTO copies SELECT * FROM {PREFIX}{name}", "unique_key") for name in NAMES),
    ]:
        change(f"CREATE TABLE copies AS SELECT * FROM {PREFIX}{table}")
        check_rows(table, "copies")
        change(wrong)
        with pytest.raises(AirflowException, match=f"Check: {check},") as failure:
            check_rows(table, "copies")
        assert str(failure.value).count("Check: ") == 1
        change("DROP TABLE copies")


def test_checks_follow_from_the_declared_schema() -> None:
    """A table that does not exist has none."""
    assert column_checks()["id"] == {"null_check": {"equal_to": 0}, "unique_check": {"equal_to": 0}}
    assert column_checks("conversation_costs")["cost"] == {"min": {"geq_to": 0}}
    assert set(table_checks("agent_configs", name="calls_agent_configs")) == {
        "interval_in_order",
        "unique_key",
    }
    with pytest.raises(VoiceOSValueError, match="'calls' is not one of"):
        column_checks("calls")
