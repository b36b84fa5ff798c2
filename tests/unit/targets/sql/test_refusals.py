"""What an engine's refusal says to people, and what it must not."""

from __future__ import annotations

import pytest

from voiceos_provider.exceptions import VoiceOSTargetError
from voiceos_provider.targets.sql import DIALECTS, ddl, dialect_named
from voiceos_provider.targets.sql.errors import refusal_of


class DriverError(Exception):
    """As psycopg and ADBC have them."""

    def __init__(
        self, message: str, sqlstate: str | None, details: list[tuple[bytes, bytes]] | None = None
    ) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.details = details or []


class OperationalError(DriverError):
    """Without a SQLSTATE, the connection is gone."""


@pytest.mark.parametrize("sqlstate", ["23505", "22P02", None])
def test_a_message_that_may_quote_a_row_is_not_repeated(sqlstate: str | None) -> None:
    """Neither of a constraint, nor of a value that does not fit, nor of what nobody knows."""
    error = DriverError("ERROR: duplicate key\nDETAIL: Key (phone)=(+15550100) already exists.", sqlstate)
    told = str(refusal_of(error).error("PostgreSQL", "write"))
    assert "5550100" not in told
    assert "duplicate" not in told


def test_the_constraint_is_named() -> None:
    """It tells what to look at."""
    details = [(b"PG_DIAG_CONSTRAINT_NAME", b"no_numbers"), (b"PG_DIAG_MESSAGE_DETAIL", b"+15550100")]
    told = str(refusal_of(DriverError("x", "23514", details)).error("PostgreSQL", "write"))
    assert told == "PostgreSQL refused to write (DriverError, SQLSTATE 23514, at no_numbers)."


def test_what_is_denied_is_said_with_the_cure() -> None:
    """Such a message names things, and no values."""
    refusal = refusal_of(DriverError("ERROR:  permission denied for schema voice\nLINE 1: ...", "42501"))
    error = refusal.error("PostgreSQL", "create the table x")
    assert "permission denied for schema voice. Grant it" in str(error)
    assert not error.retryable


@pytest.mark.parametrize(
    ("error", "passing"),
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
def test_what_passes_in_a_moment_is_tried_again_at_once(error: Exception, passing: bool) -> None:  # noqa: FBT001
    """A deadlock, a restart; a full disk and a held lock are Airflow's to retry."""
    refusal = refusal_of(error)
    assert refusal.passing == passing
    assert isinstance(refusal.error("PostgreSQL", "write"), VoiceOSTargetError)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_prints_its_tables(dialect: str) -> None:
    """All four, below their schema and prefix, whatever these are called."""
    printed = ddl(dialect, schema="voice", table_prefix="x_")
    assert printed.count("CREATE TABLE IF NOT EXISTS") == 4
    assert dialect_named(dialect).quote("x_agent_configs") in printed


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_quote_in_a_name_stays_in_it(dialect: str) -> None:
    """It is doubled or escaped, so that the name ends where it ends."""
    spoken = dialect_named(dialect)
    closing = spoken.quotes[1]
    quoted = spoken.quote(f"a{closing}; DROP")
    assert quoted in (f"{spoken.quotes[0]}a{closing * 2}; DROP{closing}", f"`a\\{closing}; DROP`")
