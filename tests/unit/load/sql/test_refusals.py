"""Error messages for failures of an engine: what they contain and what they hide."""

from __future__ import annotations

import re
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from voiceos_provider.exceptions import VoiceOSDestinationError, VoiceOSValueError
from voiceos_provider.load.sql import DIALECTS, ddl, dialect_named
from voiceos_provider.load.sql.errors import failure_of
from voiceos_provider.load.sql.plan import Merge
from voiceos_provider.transform.schema import CONVERSATIONS


class DriverError(Exception):
    """An error as psycopg and ADBC raise it."""

    def __init__(
        self, message: str, sqlstate: str | None, details: list[tuple[bytes, bytes]] | None = None
    ) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.details = details or []


class OperationalError(DriverError):
    """An error without a SQLSTATE, as for a lost connection."""


class MySQLError(Exception):
    """An error of MySQL's drivers: a number and a text."""


class PostgresError(Exception):
    """An error of psycopg."""

    def __init__(
        self, message: str, sqlstate: str, *, context: str | None = None, position: str | None = None
    ) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.diag = SimpleNamespace(message_primary=message, context=context, statement_position=position)


class RedshiftError(Exception):
    """An error of Redshift's driver: a mapping."""


class SQLiteError(Exception):
    """An error of the standard library's SQLite."""

    def __init__(self, message: str, name: str) -> None:
        super().__init__(message)
        self.sqlite_errorname = name


class SnowflakeError(Exception):
    """An error of Snowflake's connector."""

    def __init__(self, message: str, sqlstate: str, errno: int) -> None:
        super().__init__(message)
        self.raw_msg, self.sqlstate, self.errno = message, sqlstate, errno


class BigQueryError(Exception):
    """An error of BigQuery's client."""

    def __init__(self, message: str, code: int, reason: str) -> None:
        super().__init__(message)
        self.message, self.code, self.errors = message, code, [{"reason": reason}]


@pytest.mark.parametrize("sqlstate", ["23505", "22P02", None])
def test_message_that_may_quote_a_row_is_not_repeated(sqlstate: str | None) -> None:
    """It may come from a constraint, an invalid value or an unknown cause."""
    error = DriverError("ERROR: duplicate key\nDETAIL: Key (phone)=(+15550100) already exists.", sqlstate)
    message = str(failure_of(error).to_exception("PostgreSQL", "write"))
    assert "5550100" not in message
    assert "duplicate" not in message


@pytest.mark.parametrize(
    ("dialect", "error"),
    [
        ("mysql", MySQLError(1644, "bad row for caller +15550100")),  # SIGNAL, in a trigger
        ("mysql", MySQLError(1586, "Duplicate entry '+15550100' for key 'x'")),
        ("mysql", MySQLError(1526, "Table has no partition for value 15550100")),
        ("mysql", MySQLError(1300, "Invalid utf8mb4 character string: '+15550100'")),
        ("mysql", MySQLError(4025, "+15550100")),
        ("postgres", PostgresError("bad row +15550100", "P0001", context="PL/pgSQL function f() at RAISE")),
        ("postgres", PostgresError("bad row +15550100", "42501", context="PL/pgSQL function f() at RAISE")),
        ("postgres", PostgresError('syntax error in tsquery: "+15550100"', "42601")),
        ("postgres", PostgresError("+15550100", "XX000", position="1")),
        ("redshift", RedshiftError({"C": "42P01", "M": 'relation "+15550100" does not exist'})),
        ("generic", OperationalError("ERROR: +15550100", "42501")),
        ("sqlite", SQLiteError("no such table as +15550100", "SQLITE_CONSTRAINT_TRIGGER")),
        ("sqlite", SQLiteError("no such column: +15550100", "SQLITE_ERROR")),
        ("duckdb", Exception('Duplicate key "id: +15550100" violates unique constraint')),
        ("clickhouse", Exception("Cannot parse string '+15550100'")),
        ("snowflake", SnowflakeError("Duplicate row detected\nRow Values: [+15550100]", "42P18", 100090)),
        ("bigquery", BigQueryError("Bad value: +15550100, no concurrent update", 400, "invalidQuery")),
        ("bigquery", BigQueryError("Row +15550100 is too large", 400, "resourcesExceeded")),
        ("databricks", Exception("[USER_RAISED_EXCEPTION] +15550100 SQLSTATE: 42501 SQLSTATE: P0001")),
        ("databricks", Exception("[DELTA_CONCURRENT_APPEND] partition [n=15550100]. SQLSTATE: 2D521")),
    ],
)
def test_no_engine_s_error_repeats_a_row(dialect: str, error: Exception) -> None:
    """A type, a key, a partition or a user's trigger may raise it."""
    message = str(dialect_named(dialect).classify(error).to_exception("The engine", "write"))
    assert "5550100" not in message
    assert type(error).__name__ in message


@pytest.mark.parametrize(
    ("dialect", "error"),
    [
        ("mysql", MySQLError(1142, "INSERT command denied to user 'x'@'%' for table 't'")),
        ("mysql", MySQLError(1146, "Table 'voice.t' doesn't exist")),
        ("postgres", PostgresError("permission denied for table t", "42501")),
        ("postgres", PostgresError("operator does not exist: mood = text", "42883", position="15")),
        ("redshift", RedshiftError({"C": "42703", "M": 'column "b" does not exist', "P": "15"})),
        ("sqlite", SQLiteError("database is locked", "SQLITE_BUSY")),
        ("snowflake", SnowflakeError("SQL access control error:\nInsufficient privileges", "42501", 3001)),
        ("databricks", Exception("[TABLE_OR_VIEW_NOT_FOUND] The table t cannot be found. SQLSTATE: 42P01")),
    ],
)
def test_message_that_only_names_objects_is_repeated(dialect: str, error: Exception) -> None:
    """The person on call needs the name of the table."""
    failure = dialect_named(dialect).classify(error)
    assert " ".join(failure.message.split()) in str(failure.to_exception("The engine", "write"))


def test_violated_constraint_is_named() -> None:
    """The name shows what to check."""
    details = [(b"PG_DIAG_CONSTRAINT_NAME", b"no_numbers"), (b"PG_DIAG_MESSAGE_DETAIL", b"+15550100")]
    message = str(failure_of(DriverError("x", "23514", details)).to_exception("PostgreSQL", "write"))
    assert message == "PostgreSQL refused to write (DriverError, SQLSTATE 23514, at no_numbers)."


def test_missing_permission_is_reported_with_the_remedy() -> None:
    """The engine's message names objects and no values."""
    said = "ERROR:  permission denied for schema voice\nLINE 1: ..."
    failure = failure_of(DriverError(said, "42501", [(b"PG_DIAG_SEVERITY", b"ERROR")]))
    error = failure.to_exception("PostgreSQL", "create the table x")
    assert "permission denied for schema voice. Grant the right" in str(error)
    assert not error.retryable


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (DriverError("", "40P01"), True),
        (DriverError("", "40001"), True),
        (DriverError("", "57P01"), True),
        (DriverError("", "53300"), True),
        (OperationalError("server closed the connection", None), True),
        (DriverError("", "55P03"), False),
        (DriverError("", "53100"), False),
    ],
)
def test_transient_failures_are_retried_at_once(error: Exception, transient: bool) -> None:  # noqa: FBT001
    """A deadlock or a restart is transient; Airflow retries a full disk or a held lock."""
    failure = failure_of(error)
    assert failure.transient == transient
    assert isinstance(failure.to_exception("PostgreSQL", "write"), VoiceOSDestinationError)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_prints_its_tables(dialect: str) -> None:
    """All four have the requested schema and prefix."""
    printed = ddl(dialect, schema="voice", table_prefix="x_")
    assert printed.count("CREATE TABLE IF NOT EXISTS") == 4
    assert dialect_named(dialect).quote("x_agent_configs") in printed


@pytest.mark.parametrize("dialect", DIALECTS)
def test_quote_in_a_name_is_escaped(dialect: str) -> None:
    """The name cannot end early."""
    sql = dialect_named(dialect)
    quote = sql.capabilities.identifier_quote
    assert sql.quote(f"a{quote}; DROP") in (f"{quote}a{quote * 2}; DROP{quote}", f"`a\\{quote}; DROP`")


@pytest.mark.parametrize(("version", "taken"), [("24.3.18.7", False), ("24.4.1.1", True), ("26.9.2.1", True)])
def test_old_clickhouse_is_rejected_with_the_required_version(version: str, taken: bool) -> None:  # noqa: FBT001
    """The error comes before any statement."""
    message = (
        nullcontext() if taken else pytest.raises(VoiceOSValueError, match=f"{version}, and 24.4 or newer")
    )
    with message:
        dialect_named("clickhouse").open(SimpleNamespace(server_version=version))


def test_clickhouse_statements_suit_old_versions() -> None:
    """A SELECT takes `IS DISTINCT FROM` only from 25.11."""
    merge = Merge(
        table=CONVERSATIONS,
        target="t",
        name="t",
        staging="s",
        existing={},
        columns=CONVERSATIONS.columns,
        touch_unchanged=False,
    )
    dialect = dialect_named("clickhouse")
    asked = [dialect.changed(merge), *dialect.write(merge, new=1, updated=1, stale=1)]
    assert not re.search("DISTINCT FROM|<=>", " ".join(asked))
