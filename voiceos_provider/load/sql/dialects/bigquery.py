"""BigQuery: rows are loaded as Parquet by load jobs, and merged by one script, which is a transaction.

Changes are counted first. Then one script locks, merges, verifies and commits: it runs in BigQuery to its end or not at
all, even if the worker is killed. If another load has committed between the counting and the script, the lock detects
it, and the load starts again.
"""

from __future__ import annotations

import re
import unicodedata
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.load.sql.capabilities import (
    BACKSLASH_ONLY_ESCAPES,
    Capabilities,
    ColumnType,
    JsonLimits,
)
from voiceos_provider.load.sql.dialect import Dialect
from voiceos_provider.load.sql.errors import Failure, failure_of
from voiceos_provider.load.sql.plan import Merge, Namespace
from voiceos_provider.load.sql.staging import parquet_file
from voiceos_provider.transform import Column, Table
from voiceos_provider.transform.schema import CONVERSATION_COSTS, CONVERSATION_MESSAGES, CONVERSATIONS

_BY_DAY = (CONVERSATIONS, CONVERSATION_COSTS, CONVERSATION_MESSAGES)
_CLUSTERED = {CONVERSATIONS.name: ("agent_id", "started_at")}
"""Clustering columns of tables that are queried by other columns than the key."""

_IN_NAMES = ("L", "M", "N", "Pc", "Pd", "Zs")
"""Unicode categories of characters in table names."""

_STANDARD = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL"}
"""Types in SQL for the names in the API."""

_NAMES_ONLY = ("08006", "28000", "3F000", "42501", "42P01", "53300", "53400", "57014")
"""SQLSTATEs whose messages are repeated; that of a failed query may contain values."""

_FAILED_CHECK = re.compile(r"voiceos check (\d+)")
_UPLOAD = re.compile(r"upload_id=[^\s&:]+")
"""A credential: it allows to write to the upload for a while."""


class BigQuery(Dialect):
    """BigQuery. Money is BIGNUMERIC, which is exact; JSON is JSON.

    Keys are declared for the optimizer, and not enforced: the merge keeps them unique.
    """

    capabilities = Capabilities(
        name="bigquery",
        title="BigQuery",
        experimental=True,
        types={
            "text": ColumnType("STRING", "STRING"),
            "instant": ColumnType("TIMESTAMP", "TIMESTAMP|STRING"),
            "money": ColumnType("BIGNUMERIC", "BIGNUMERIC|NUMERIC|FLOAT64|STRING"),
            "number": ColumnType("FLOAT64", "FLOAT64|NUMERIC|BIGNUMERIC|STRING"),
            "count": ColumnType("INT64", "INT64|NUMERIC|BIGNUMERIC|FLOAT64|STRING"),
            "flag": ColumnType("BOOL", "BOOL|STRING"),
            "json": ColumnType("JSON", "JSON|STRING", staged="STRING"),
        },
        casts=True,
        identifier_quote="`",
        escaped_identifiers=True,
        max_identifier_bytes=1024,
        literal_escapes=BACKSLASH_ONLY_ESCAPES,
        instant_literal="TIMESTAMP '%Y-%m-%d %H:%M:%S.%f+00:00'",
        comments="inline",
        add_column_guard="IF NOT EXISTS ",
        parse_json="PARSE_JSON({}, wide_number_mode=>'round')",
        json_text="TO_JSON_STRING({})",
        json_limits=JsonLimits(depth=500, exponents=(-307, 307)),
    )

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._lock: list[str] = []
        self._script: list[str] = []
        self._complaints: list[str] = []

    def require_names(self, tables: Sequence[Table]) -> None:
        """Raise VoiceOSValueError if a name cannot be used, or the dataset is missing."""
        if self.namespace.schema is None:
            raise VoiceOSValueError("Set schema to the dataset of the tables; BigQuery needs one.")
        super().require_names(tables)

    def require_name(self, parameter: str, name: str) -> None:
        """Raise VoiceOSValueError if BigQuery cannot use the name."""
        super().require_name(parameter, name)
        allowed = ".:" if parameter == "schema" else ""
        for letter in name:
            if not unicodedata.category(letter).startswith(_IN_NAMES) and letter not in allowed:
                raise VoiceOSValueError(
                    f"{parameter} makes the name {name!r}; BigQuery's names have letters, digits, underscores, dashes "
                    f"and spaces, and no {letter!r}."
                )

    def create_table(self, table: Table, *, keyed: bool = True) -> list[str]:
        """Return the statement that creates the table, partitioned by day and clustered."""
        (statement,) = super().create_table(table, keyed=keyed)
        day = (
            f" PARTITION BY TIMESTAMP_TRUNC({self.quote('_interval_start')}, DAY)" if table in _BY_DAY else ""
        )
        together = ", ".join(map(self.quote, _CLUSTERED.get(table.name, table.key[:1])))
        return [
            f"{statement}{day} CLUSTER BY {together} OPTIONS (description={self.text(table.description)})"
        ]

    def primary_key(self, table: Table) -> str:
        """Return the definition of the key, which is not enforced."""
        return f"{super().primary_key(table)} NOT ENFORCED"

    def inline_comment(self, description: str) -> str:
        """Return the description of a column."""
        return f" OPTIONS (description={self.text(description)})"

    def existing_columns(self, table: Table) -> dict[str, str] | None:
        """Return the existing columns with their types, from the API, which is free."""
        from google.api_core.exceptions import NotFound

        try:
            found = self.connection.get_table(self._reference(self.namespace, table)).schema
        except NotFound:
            return None
        return {
            field.name: "ARRAY"
            if field.mode == "REPEATED"
            else _STANDARD.get(field.field_type, field.field_type)
            for field in found
        }

    def _reference(self, namespace: Namespace, table: Table) -> Any:
        from google.cloud.bigquery import DatasetReference

        project, _, dataset = str(namespace.schema).rpartition(".")
        return DatasetReference(project or self.connection.project, dataset).table(
            namespace.prefix + table.name
        )

    def run(self, statement: str) -> None:
        """Execute a statement, and discard its result."""
        self._query(statement)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        return [tuple(row.values()) for row in self._query(query)]

    def _query(self, statement: str) -> Iterable[Any]:
        result: Iterable[Any] = self.connection.query(statement).result()
        return result

    def lock(self) -> None:
        """Read which load wrote last; the script fails if another one has written since.

        The lock is the one row of a table of its own, because two transactions that only insert do not conflict.
        """
        from google.api_core.exceptions import NotFound

        name = self.in_schema(f"{self.namespace.prefix}voiceos_lock")
        latest = f"SELECT `holder` FROM {name}"
        try:
            ((holder,),) = self.rows(latest)
        except NotFound:
            about = self.inline_comment("Separates concurrent exports. Its one row names the latest.")
            self.run(f"CREATE TABLE IF NOT EXISTS {name}{about} AS SELECT '' AS `holder`")
            ((holder,),) = self.rows(latest)
        mine = self.text(uuid.uuid4().hex)
        self._complaints = []
        self._lock = [
            f"UPDATE {name} SET `holder` = {mine} WHERE `holder` = {self.text(str(holder))}",
            self._check(
                f"SELECT count(*) FROM {name} WHERE `holder` = {mine}",
                1,
                "Another load has written to the same tables meanwhile",
            ),
        ]

    def change(self, statement: str) -> None:
        """Add a statement to the script."""
        self._script.append(statement)

    def require(self, query: str, expected: int, complaint: str) -> None:
        """Add a check to the script."""
        self._script.append(self._check(query, expected, complaint))

    def _check(self, query: str, expected: int, complaint: str) -> str:
        self._complaints.append(complaint)
        return f"SELECT IF(({query}) = {expected}, 0, ERROR('voiceos check {len(self._complaints) - 1}'))"

    def commit(self) -> None:
        """Execute the script, if there is one."""
        if not self._script:
            return
        script = ["BEGIN TRANSACTION", *self._lock, *self._script, "COMMIT TRANSACTION"]
        try:
            self._query("".join(f"{statement};\n" for statement in script))
        except Exception as error:
            failed = _FAILED_CHECK.search(str(error))
            if failed is None:
                raise
            complaint = self._complaints[int(failed[1])]
        else:
            self.rollback()
            return
        # Outside the `except`, so that the server's error, which may contain rows, is not its context.
        raise self.interference(complaint)

    def rollback(self) -> None:
        """Forget the script."""
        self._script, self._lock, self._complaints = [], [], []

    def create_staging_table(self, table: Table, columns: Sequence[Column]) -> None:
        """Create a table that expires after a day, in case the load is killed."""
        expires = "expiration_timestamp=TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL 1 DAY)"
        lines = self.staging_definitions(table, columns)
        self.run(f"CREATE OR REPLACE TABLE {self.staging_table(table)} ({lines}) OPTIONS ({expires})")

    def drop_abandoned_tables(self) -> None:
        """Do nothing: the tables expire."""

    def load_rows(self, namespace: Namespace, table: Table, rows: pa.RecordBatchReader) -> None:
        """Load rows as one Parquet file by a load job, which is free."""
        from google.cloud.bigquery import LoadJobConfig

        config = LoadJobConfig(
            source_format="PARQUET", write_disposition="WRITE_APPEND", decimal_target_types=["BIGNUMERIC"]
        )
        with parquet_file(rows) as path, path.open("rb") as file:
            self.connection.load_table_from_file(
                file, self._reference(namespace, table), job_config=config
            ).result()

    def classify(self, error: Exception) -> Failure:
        """Describe an error by the API's reason, with the SQLSTATE that other engines have for it."""
        failure = failure_of(error)
        status = getattr(error, "code", None)
        reasons = [
            each.get("reason") for each in getattr(error, "errors", None) or () if isinstance(each, dict)
        ]
        reason = str(reasons[0]) if reasons and reasons[0] else failure.kind
        message = str(getattr(error, "message", None) or error)
        sqlstate = _sqlstate(reason, status if isinstance(status, int) else None, message)
        return Failure(
            kind=failure.kind,
            sqlstate=sqlstate,
            code=reason,
            message=_UPLOAD.sub("upload_id=...", message),
            names_only=sqlstate in _NAMES_ONLY,
            transient=sqlstate == "58000",
        )

    def write(self, merge: Merge, *, new: int, updated: int, stale: int) -> list[str]:
        """Delete what is gone, and merge the rest."""
        statements = [f"DELETE FROM {merge.target} WHERE {merge.stale}"] if stale else []
        if new or updated:
            only = "" if merge.touch_unchanged else f" AND {self.changed(merge)}"
            statements.append(
                f"MERGE INTO {merge.target} t USING {merge.staging} s ON {self.same_key(merge)} "
                f"WHEN MATCHED{only} THEN UPDATE SET {self.assignments(merge)} "
                f"WHEN NOT MATCHED THEN INSERT ({self.column_list(merge)}) VALUES ({self.staged_list(merge)})"
            )
        return statements


def _sqlstate(reason: str, status: int | None, message: str) -> str | None:
    if "concurrent update" in message:
        return "40001"
    if status in (404, 410) and "upload_id=" in message:  # an upload that was cut off, and cannot go on
        return "08006"
    if reason in ("ConnectionError", "TransportError", "RetryError"):
        return "08006"
    if reason in ("RefreshError", "DefaultCredentialsError") or status == 401:
        return "28000"
    if reason in ("rateLimitExceeded", "jobRateLimitExceeded", "TooManyRequests"):
        return "53300"
    if reason == "quotaExceeded":
        return "53400"
    if reason == "stopped":
        return "57014"
    if reason in ("resourcesExceeded", "responseTooLarge"):
        return "54000"
    if reason in ("backendError", "internalError") or (status or 0) >= 500:
        return "58000"
    if status == 403:
        return "42501"
    if status == 404:
        return "3F000" if "Dataset" in message else "42P01"
    return None
