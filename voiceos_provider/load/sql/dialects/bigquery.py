"""How does BigQuery take rows? As Parquet by a load job, and then by one script that is a transaction.

What is to happen is counted first, and nothing is written meanwhile. Then one script locks, merges, counts again, and
commits: it runs on BigQuery's side to its end or not at all, whatever becomes of the worker. An export that committed
between the counting and the script is noticed by the lock, and the load begins again.
"""

from __future__ import annotations

import re
import unicodedata
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.load.sql.dialect import Dialect
from voiceos_provider.load.sql.errors import Refusal, refusal_of
from voiceos_provider.load.sql.namespace import Merge, Namespace
from voiceos_provider.load.sql.quoting import ONLY_BACKSLASH_ESCAPES
from voiceos_provider.load.sql.session import Session
from voiceos_provider.load.workdir import disk_errors, local_file
from voiceos_provider.transform import Column, Table
from voiceos_provider.transform.schema import CONVERSATION_COSTS, CONVERSATION_MESSAGES, CONVERSATIONS

_BY_DAY = (CONVERSATIONS, CONVERSATION_COSTS, CONVERSATION_MESSAGES)
_CLUSTERED = {CONVERSATIONS.name: ("agent_id", "started_at")}
"""By what else than its key a table is looked up."""

_IN_NAMES = ("L", "M", "N", "Pc", "Pd", "Zs")
"""Classes of letters that a table's name may have."""

_STANDARD = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL"}
"""The API's names of types, and SQL's."""

_NAMES_THINGS = ("08006", "28000", "3F000", "42501", "42P01", "53300", "53400", "57014")
"""Of these reasons the message is repeated; a query's own may hold values."""

_SAID = re.compile(r"voiceos check (\d+)")
_UPLOAD = re.compile(r"upload_id=[^\s&:]+")
"""Whoever knows it can write in our name for a while."""


class BigQuery(Dialect):
    """BigQuery. Money is BIGNUMERIC, which is exact; JSON is JSON.

    Keys are declared, for its optimizer, and not enforced: the merge keeps them.
    """

    name = "bigquery"
    title = "BigQuery"
    longest_name = 1024
    needs_schema = True
    updates_by_inserting = False
    inserts_in_order = False
    escapes = ONLY_BACKSLASH_ESCAPES
    instants = "TIMESTAMP '%Y-%m-%d %H:%M:%S.%f+00:00'"
    comments = "within"
    unless_there = "IF NOT EXISTS "
    unlike = "{ours} IS DISTINCT FROM {theirs}"
    quotes = ("`", "`")
    types: ClassVar[Mapping[str, str]] = {
        "text": "STRING",
        "instant": "TIMESTAMP",
        "money": "BIGNUMERIC",
        "number": "FLOAT64",
        "count": "INT64",
        "flag": "BOOL",
        "json": "JSON",
    }
    fitting: ClassVar[Mapping[str, str]] = {
        "text": "STRING",
        "instant": "TIMESTAMP|STRING",
        "money": "BIGNUMERIC|NUMERIC|FLOAT64|STRING",
        "number": "FLOAT64|NUMERIC|BIGNUMERIC|STRING",
        "count": "INT64|NUMERIC|BIGNUMERIC|FLOAT64|STRING",
        "flag": "BOOL|STRING",
        "json": "JSON|STRING",
    }

    def quote(self, name: str) -> str:
        """An identifier; a backslash would escape what follows. `project.dataset` is one, too."""
        return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"

    def require_name(self, parameter: str, name: str) -> None:
        """:raises VoiceOSValueError: if nothing can be called so"""
        super().require_name(parameter, name)
        allowed = ".:" if parameter == "schema" else ""
        for letter in name:
            if not unicodedata.category(letter).startswith(_IN_NAMES) and letter not in allowed:
                raise VoiceOSValueError(
                    f"{parameter} makes the name {name!r}; BigQuery's names have letters, digits, underscores, dashes "
                    f"and spaces, and no {letter!r}."
                )

    def create(self, place: Namespace, table: Table, *, keyed: bool = True) -> list[str]:
        """Statements that make the table, if it is not there: by day of creation, and by what is looked up."""
        (statement,) = super().create(place, table, keyed=keyed)
        day = (
            f" PARTITION BY TIMESTAMP_TRUNC({self.quote('_interval_start')}, DAY)" if table in _BY_DAY else ""
        )
        together = ", ".join(map(self.quote, _CLUSTERED.get(table.name, table.key[:1])))
        return [
            f"{statement}{day} CLUSTER BY {together} OPTIONS (description={self.text(table.description)})"
        ]

    def key_line(self, table: Table) -> str:
        """The key, which nobody enforces."""
        return f"{super().key_line(table)} NOT ENFORCED"

    def comment(self, description: str) -> str:
        """The column's description."""
        return f" OPTIONS (description={self.text(description)})"

    def existing(self, session: Session, place: Namespace, table: Table) -> dict[str, str] | None:
        """The columns with their types, from the API, which costs nothing."""
        from google.api_core.exceptions import NotFound

        try:
            found = session.connection.get_table(_reference(session.connection, place, table)).schema
        except NotFound:
            return None
        return {
            field.name: "ARRAY"
            if field.mode == "REPEATED"
            else _STANDARD.get(field.field_type, field.field_type)
            for field in found
        }

    def open(self, connection: Any) -> Session:
        """A session of a `google.cloud.bigquery` client."""
        return _BigQuerySession(connection)

    def lock(self, session: Session, place: Namespace, *, lock_timeout: float) -> None:
        """Learn who wrote last; the script then goes on only if nobody has since.

        A row of a table of its own, for two transactions that only insert would not be in each other's way.
        """
        from google.api_core.exceptions import NotFound

        assert isinstance(session, _BigQuerySession)
        name = (f"{self.quote(place.schema)}." if place.schema else "") + self.quote(
            f"{place.prefix}voiceos_lock"
        )
        latest = f"SELECT `holder` FROM {name}"
        try:
            ((holder,),) = session.rows(latest)
        except NotFound:
            about = self.comment("Keeps two exports at once apart. Its one row tells which was the latest.")
            session.run(f"CREATE TABLE IF NOT EXISTS {name}{about} AS SELECT '' AS `holder`")
            ((holder,),) = session.rows(latest)
        mine = self.text(uuid.uuid4().hex)
        session.hold(
            f"UPDATE {name} SET `holder` = {mine} WHERE `holder` = {self.text(str(holder))}",
            f"SELECT count(*) FROM {name} WHERE `holder` = {mine}",
        )

    def create_stage(
        self, session: Session, place: Namespace, table: Table, columns: Sequence[Column]
    ) -> None:
        """A table that vanishes after a day, should nobody be left to drop it; JSON is text until it is merged."""
        lines = ", ".join(
            f"{self.quote(c.name)} {'STRING' if c.kind.name == 'json' else self.type_of(c)}" for c in columns
        )
        until = "expiration_timestamp=TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL 1 DAY)"
        session.run(
            f"CREATE OR REPLACE TABLE {self.at(self.staging(place), table)} ({lines}) OPTIONS ({until})"
        )

    def drop_abandoned(self, session: Session, place: Namespace) -> None:
        """Nothing: they vanish by themselves."""

    def fill(
        self,
        session: Session,
        place: Namespace,
        table: Table,
        schema: pa.Schema,
        batches: Iterable[pa.RecordBatch],
    ) -> None:
        """One Parquet file, and one load job, which costs nothing."""
        from google.cloud.bigquery import LoadJobConfig

        config = LoadJobConfig(
            source_format="PARQUET", write_disposition="WRITE_APPEND", decimal_target_types=["BIGNUMERIC"]
        )
        with local_file(".parquet") as path:
            with disk_errors(path.parent), pq.ParquetWriter(path, schema, compression="zstd") as writer:
                for batch in batches:
                    writer.write_batch(batch)
            with path.open("rb") as file:
                session.connection.load_table_from_file(
                    file, _reference(session.connection, place, table), job_config=config
                ).result()

    def refusal(self, error: Exception) -> Refusal:
        """The API's reasons, with the SQLSTATE that others have for the same."""
        refusal = refusal_of(error)
        status = getattr(error, "code", None)
        reasons = [
            told.get("reason") for told in getattr(error, "errors", None) or () if isinstance(told, dict)
        ]
        reason = str(reasons[0]) if reasons and reasons[0] else refusal.kind
        message = str(getattr(error, "message", None) or error)
        sqlstate = _sqlstate(reason, status if isinstance(status, int) else None, message)
        return Refusal(
            kind=refusal.kind,
            sqlstate=sqlstate,
            code=reason,
            message=_UPLOAD.sub("upload_id=...", message),
            plain=sqlstate in _NAMES_THINGS,
            passing=(sqlstate or "").startswith(("08", "40", "58")) or sqlstate == "53300",
            lost=(sqlstate or "").startswith("08"),
        )

    def read(self, column: Column, kind: str) -> str:
        """Text becomes JSON where the column is one; any other value what the column is."""
        name = super().read(column, kind)
        if column.kind.name == "json":
            return f"PARSE_JSON({name}, wide_number_mode=>'round')" if kind in ("JSON", "") else name
        return name if kind in (self.types[column.kind.name], "") else f"CAST({name} AS {kind})"

    def differs(self, column: Column, kind: str, t: str) -> str:
        """Null-safe; a JSON is compared as its text."""
        ours, theirs = self.read(column, kind), f"{t}.{self.quote(column.name)}"
        if column.kind.name == "json" and kind in ("JSON", ""):
            ours, theirs = f"TO_JSON_STRING({ours})", f"TO_JSON_STRING({theirs})"
        return self.unlike.format(ours=ours, theirs=theirs)

    def write(self, merge: Merge, *, new: int, old: int, gone: int) -> list[str]:
        """Delete what is gone, and merge the rest."""
        statements = [f"DELETE FROM {merge.target} WHERE {merge.gone}"] if gone else []
        return [*statements, self.upsert(merge)] if new or old else statements


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


class _BigQuerySession(Session):
    """A client in place of a connection. Changes wait for the commit, and are one script then."""

    def __init__(self, connection: Any) -> None:
        super().__init__(connection)
        self._held: list[str] = []
        self._script: list[str] = []
        self._complaints: list[str] = []

    def run(self, statement: str) -> None:
        self._ask(statement)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return [tuple(row.values()) for row in self._ask(query)]

    def hold(self, take: str, held: str) -> None:
        """Begin the script by taking the lock, unless somebody else has."""
        self._held, self._complaints = [], []
        self._held = [take, self._check(held, 1, "Another export has written to the same tables meanwhile")]

    def change(self, statement: str) -> None:
        self._script.append(statement)

    def require(self, query: str, expected: int, complaint: str) -> None:
        self._script.append(self._check(query, expected, complaint))

    def _check(self, query: str, expected: int, complaint: str) -> str:
        self._complaints.append(complaint)
        return f"SELECT IF(({query}) = {expected}, 0, ERROR('voiceos check {len(self._complaints) - 1}'))"

    def commit(self) -> None:
        if not self._script:
            return
        script = ["BEGIN TRANSACTION", *self._held, *self._script, "COMMIT TRANSACTION"]
        try:
            self._ask("".join(f"{statement};\n" for statement in script))
        except Exception as error:
            failed = _SAID.search(str(error))
            if failed is None:
                raise
            complaint = self._complaints[int(failed[1])]
        else:
            self._script, self._held, self._complaints = [], [], []
            return
        # Not within the `except`: what the server said may hold rows, and must not hang on to this.
        raise self.interference(complaint)

    def rollback(self) -> None:
        self._script, self._held, self._complaints = [], [], []

    def _ask(self, statement: str) -> Iterable[Any]:
        answer: Iterable[Any] = self.connection.query(statement).result()
        return answer


def _reference(client: Any, place: Namespace, table: Table) -> Any:
    from google.cloud.bigquery import DatasetReference

    project, _, dataset = str(place.schema).rpartition(".")
    return DatasetReference(project or client.project, dataset).table(place.prefix + table.name)
