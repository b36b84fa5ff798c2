"""Capabilities of a database engine, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

QUOTE_ESCAPES: Mapping[str, str] = {"'": "''"}
"""Escapes in the literals of standard SQL."""

BACKSLASH_ESCAPES: Mapping[str, str] = {"\\": "\\\\", "'": "''"}
"""Escapes in literals in which a backslash has a meaning."""

BACKSLASH_ONLY_ESCAPES: Mapping[str, str] = {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r"}
"""Escapes in literals in which two quotes end one literal and begin another."""

IS_DISTINCT = (
    "({ours} <> {theirs} OR ({ours} IS NULL AND {theirs} IS NOT NULL) "
    "OR ({ours} IS NOT NULL AND {theirs} IS NULL))"
)
"""Null-safe comparison without an operator for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonLimits:
    """JSON documents that the JSON type of an engine accepts; None for no limit.

    A document beyond them is stored as a JSON string that holds the document's text, and counted.

    :param depth: nested arrays and objects
    :param exponents: decimal exponents of the smallest and largest number
    :param key_bytes: bytes of one key
    """

    depth: int | None = None
    exponents: tuple[int, int] | None = None
    key_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class ColumnType:
    """SQL type of one kind of column.

    :param name: the type in CREATE TABLE
    :param accepts: pattern of the types that an existing column may have; any by default
    :param staged: the type in staging tables, if it differs; the merge converts the values
    """

    name: str
    accepts: str = ""
    staged: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """Facts about an engine that the dialect and the load job consult.

    :param name: the name of the dialect, as in `DIALECTS`
    :param title: the name of the engine in messages
    :param experimental: the dialect was tested with emulators only, never with the real engine
    :param types: the SQL type of each kind of column
    :param casts: staged values are cast to the type of an existing column that differs from ours
    :param placeholder: the driver's placeholder for a value
    :param identifier_quote: the quote of an identifier
    :param escaped_identifiers: a backslash escapes a quote in an identifier; otherwise a quote is doubled
    :param max_identifier_bytes: bytes of the longest identifier
    :param literal_escapes: the escape of each special character in a text literal
    :param instant_literal: `strftime` format of a literal for an instant in UTC
    :param comments: column descriptions are part of the definition, statements of their own, or not supported
    :param add_column_guard: clause that makes ADD COLUMN succeed if the column exists
    :param current_schema: expression for the session's default schema
    :param catalog_filter: further condition on `information_schema`, if it covers other databases
    :param temporary: keyword of session-private tables; empty if staging tables are ordinary tables, dropped at the end
    :param staging_in_schema: staging tables are in the schema of the tables, although they are session-private
    :param transactional_ddl: a rollback removes tables created in the transaction
    :param has_load_lock: loads into one namespace wait for one another; otherwise conflicts are detected and retried
    :param late_keys: a new table gets its primary key after the rows
    :param is_distinct: null-safe comparison of `{ours}` and `{theirs}`
    :param parse_json: expression that makes JSON of a staged text
    :param json_text: expression that makes a JSON value comparable
    :param json_limits: JSON documents that the type `json` accepts
    :param max_text_bytes: bytes of the longest text value; longer ones become null and are counted
    :param max_id_length: characters of the longest conversation id
    :param text_length: function that counts the characters of a text
    :param idle_timeout: seconds after which the server ends a silent session and releases its locks, where it can
    """

    name: str
    title: str
    experimental: bool = False
    types: Mapping[str, ColumnType]
    casts: bool = False
    placeholder: str = "%s"
    identifier_quote: str = '"'
    escaped_identifiers: bool = False
    max_identifier_bytes: int = 63
    literal_escapes: Mapping[str, str] = field(default_factory=lambda: QUOTE_ESCAPES)
    instant_literal: str = "TIMESTAMP '%Y-%m-%d %H:%M:%S.%f'"
    comments: Literal["none", "inline", "statement"] = "none"
    add_column_guard: str = ""
    current_schema: str = "CURRENT_SCHEMA"
    catalog_filter: str = ""
    temporary: str = ""
    staging_in_schema: bool = False
    transactional_ddl: bool = False
    has_load_lock: bool = False
    late_keys: bool = False
    is_distinct: str = "{ours} IS DISTINCT FROM {theirs}"
    parse_json: str = "{}"
    json_text: str = "{}"
    json_limits: JsonLimits = JsonLimits()
    max_text_bytes: int | None = None
    max_id_length: int | None = None
    text_length: str = "CHAR_LENGTH"
    idle_timeout: int = 600

    @property
    def direct_load(self) -> bool:
        """Whether the rows of a first load can go to the new tables, without staging tables."""
        return self.transactional_ddl and not any(type_.staged for type_ in self.types.values())
