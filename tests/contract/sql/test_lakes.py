"""BigQuery and Databricks: their hooks, their statements and their error messages.

Needs their packages, so `make warehouses` runs it, in an environment of its own.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import sqlglot
from google.api_core.exceptions import BadRequest, Forbidden, NotFound, TooManyRequests
from requests.exceptions import ConnectionError as Unreachable

from tests.support.conversations import conversation
from tests.support.databases import Engine, bigquery_dataset, databricks_schema
from tests.support.exporting import NOW, export_pages, page
from voiceos_provider.emulator import Emulator, World
from voiceos_provider.exceptions import VoiceOSDestinationError, VoiceOSExportError, VoiceOSValueError
from voiceos_provider.load.sql import ddl, dialect_named
from voiceos_provider.load.sql.dialects.databricks import WithVolume
from voiceos_provider.load.sql.plan import Namespace
from voiceos_provider.transfers import voiceos_to_sql
from voiceos_provider.transform import TABLES
from voiceos_provider.transform.schema import CONVERSATION_MESSAGES, CONVERSATIONS
from voiceos_provider.utils.databases import find_database


def load(engine: Engine, **options: Any) -> Any:
    """Load two conversations."""
    at = options.pop("at", NOW)
    target = engine.destination(**options)
    pages = [page(conversation("a"), conversation("b"))]
    return export_pages(pages, Path(), exported_at=at, target=target, tables=TABLES)


def listened(connection: Any, heard: list[str]) -> Any:
    """Return a client that records its queries."""

    class Heard:
        def __getattr__(self, name: str) -> Any:
            return getattr(connection, name)

        def query(self, statement: str) -> Any:
            heard.append(statement)
            return connection.query(statement)

    return Heard()


def test_bigquery_is_loaded_through_its_hook(
    world: World, yesterday: tuple[datetime, datetime], bigquery: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Project and credentials are those of the connection, and a second run changes nothing."""
    engine = bigquery_dataset("through_the_hook", bigquery)
    monkeypatch.setattr(
        "voiceos_provider.load.sql.dialect_named", lambda _, **options: engine.dialect_class(**options)
    )
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", bigquery._connection.API_BASE_URL)
    anonymous = {"is_anonymous": True, "project": bigquery.project}
    _connect(monkeypatch, "warehouse", "google_cloud_platform", extra=anonymous)
    start, end = (at.isoformat() for at in yesterday)
    task = voiceos_to_sql.VoiceOSToSqlOperator(
        task_id="load", sql_conn_id="warehouse", schema=engine.schema, interval_start=start, interval_end=end
    )
    emulator = Emulator(world)
    with emulator.serve() as url:
        _connect(monkeypatch, "voiceos_default", "voiceos", host=url, password=emulator.token)
        receipt, again = task.execute({}), task.execute({})
    there = len(world.ids(created_after=yesterday[0], created_before=yesterday[1]))
    assert receipt["tables"]["conversations"]["inserted"] == engine.count(CONVERSATIONS) == there
    assert receipt["target"] == "bigquery://voice/through_the_hook/conversations"
    assert again["tables"]["conversation_messages"]["unchanged"] == engine.count(CONVERSATION_MESSAGES)


def _connect(monkeypatch: pytest.MonkeyPatch, conn_id: str, conn_type: str, **fields: Any) -> None:
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps({"conn_type": conn_type, **fields}))


@pytest.fixture
def dataset(bigquery: Any, tmp_path: Path) -> Iterator[Engine]:
    """Yield an empty dataset."""
    engine = bigquery_dataset(f"d{abs(hash(tmp_path))}", bigquery)
    yield engine
    bigquery.delete_dataset(engine.schema, delete_contents=True, not_found_ok=True)


def test_all_visible_changes_come_from_one_script(dataset: Engine) -> None:
    """It locks first and commits last, so a killed worker leaves no open transaction."""
    heard: list[str] = []
    load(dataset, connect=lambda: listened(dataset.connect(), heard))
    for statement in heard:
        sqlglot.parse(statement, read="bigquery")
    writing = [
        one for one in heard if "`conversations`" in one and one.lstrip().startswith(("BEGIN", "MERGE"))
    ]
    (script,) = writing
    assert script.startswith("BEGIN TRANSACTION;\nUPDATE")
    assert "voiceos_lock" in script.splitlines()[1]
    assert script.endswith("COMMIT TRANSACTION;\n")
    assert script.count("MERGE INTO") == len(TABLES)


def test_concurrent_commit_restarts_the_load(dataset: Engine) -> None:
    """Another export commits between the count and the script; the first attempt leaves no rows."""
    load(dataset)
    lock = f"`{dataset.schema}`.`voiceos_lock`"
    others = [1]
    waits: list[float] = []

    class Meddled:
        def __getattr__(self, name: str) -> Any:
            return getattr(dataset.connect(), name)

        def query(self, statement: str) -> Any:
            if statement.startswith("BEGIN") and others:
                others.pop()
                dataset.connect().query(f"UPDATE {lock} SET `holder` = 'another' WHERE true").result()
            return dataset.connect().query(statement)

    load(dataset, connect=Meddled, sleep=waits.append)
    assert len(waits) == 1
    assert dataset.count(CONVERSATIONS) == 2


def test_inconsistent_counts_are_rolled_back(dataset: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that vanishes during the script fails it, and the tables are unchanged."""
    monkeypatch.setattr("voiceos_provider.load.sql.destination._MAX_ATTEMPTS", 2)
    load(dataset)
    before = dataset.read(CONVERSATIONS)

    class Interfering:
        def __getattr__(self, name: str) -> Any:
            return getattr(dataset.connect(), name)

        def query(self, statement: str) -> Any:
            if statement.startswith("BEGIN"):
                at = dataset.table(CONVERSATIONS)
                check = statement.rindex("SELECT IF(")
                statement = f"{statement[:check]}DELETE FROM {at} WHERE `id` = 'a';\n{statement[check:]}"
            return dataset.connect().query(statement)

    with pytest.raises(
        VoiceOSDestinationError, match=r"does not hold the rows that were written.*Nothing was written"
    ):
        load(dataset, at=NOW.replace(hour=23), connect=Interfering, sleep=lambda _: None)
    assert dataset.read(CONVERSATIONS) == before


@pytest.mark.parametrize(
    ("error", "said", "transient"),
    [
        (
            BadRequest(
                "Transaction is aborted due to concurrent update against table x",
                errors=[{"reason": "invalidQuery"}],
            ),
            "SQLSTATE 40001",
            True,
        ),
        (
            Forbidden("Access Denied: Table p:d.t: no permission", errors=[{"reason": "accessDenied"}]),
            r"SQLSTATE 42501.*Access Denied: Table p:d.t: no permission. Grant the right",
            False,
        ),
        (
            NotFound("Not found: Dataset p:d", errors=[{"reason": "notFound"}]),
            "SQLSTATE 3F000.*Create the schema",
            False,
        ),
        (TooManyRequests("slow", errors=[{"reason": "rateLimitExceeded"}]), "SQLSTATE 53300", True),
        (
            NotFound("PUT https://x/jobs?upload_id=secret: no such session", errors=[{"reason": "notFound"}]),
            r"SQLSTATE 08006.*upload_id=\.\.\.: no such session",
            True,
        ),
    ],
)
def test_bigquery_errors_say_who_can_resolve_them(error: Exception, said: str, transient: bool) -> None:  # noqa: FBT001
    """BigQuery's reasons decide it, and a conflict of two transactions is retryable."""
    failure = dialect_named("bigquery").classify(error)
    reported = failure.to_exception("BigQuery", "commit")
    assert failure.transient == transient
    assert re.search(said, str(reported))


def test_bigquery_message_that_may_quote_a_row_is_not_repeated() -> None:
    """The value that cannot be cast is personal data."""
    error = BadRequest("Bad int64 value: +15550100", errors=[{"reason": "invalidQuery"}])
    reported = dialect_named("bigquery").classify(error).to_exception("BigQuery", "commit")
    assert "5550100" not in str(reported)
    assert "invalidQuery" in str(reported)


def test_network_failure_is_not_taken_for_a_full_disk(dataset: Engine) -> None:
    """The client's error is an `OSError`; the load waits and restarts."""
    failures = [Unreachable("reset")]
    waits: list[float] = []

    class Cut:
        def __getattr__(self, name: str) -> Any:
            return getattr(dataset.connect(), name)

        def load_table_from_file(self, *args: Any, **options: Any) -> Any:
            if failures:
                raise failures.pop()
            return dataset.connect().load_table_from_file(*args, **options)

    load(dataset, connect=Cut, sleep=waits.append)
    assert len(waits) == 1
    assert dataset.count(CONVERSATIONS) == 2


def test_names_that_bigquery_rejects_are_refused_at_once(dataset: Engine) -> None:
    """A dataset is required."""
    with pytest.raises(VoiceOSValueError, match="no '`'"):
        load(dataset, namespace=Namespace(dataset.schema, "x`"))
    with pytest.raises(VoiceOSValueError, match="BigQuery needs one"):
        load(dataset, namespace=Namespace(None, ""))


@pytest.mark.parametrize("dialect", ["bigquery", "databricks"])
def test_printed_ddl_is_in_the_engine_s_dialect(dialect: str) -> None:
    """Another parser of the dialect accepts it."""
    statements = sqlglot.parse(ddl(dialect, schema="voice", table_prefix="x_"), read=dialect)
    assert [one.key for one in statements if one] == ["create"] * len(TABLES)


def test_databricks_copies_from_the_volume_of_the_connection(spark: Any, tmp_path: Path) -> None:
    """Files are uploaded, copied and removed, and so are files of loads killed days ago."""
    engine = databricks_schema("volume", spark)
    heard: list[str] = []
    hexes = "0" * 32
    kept = [
        f"/Volumes/main/default/voiceos/{name}"
        for name in ("mine.parquet", f"voiceos-20991231000000000000-{hexes}.parquet")
    ]
    left = f"/Volumes/main/default/voiceos/voiceos-20200101000000000000-{hexes}.parquet"
    shelf: dict[str, Any] = dict.fromkeys([*kept, left])

    class Volume:
        """A cursor that stores files and copies them as Databricks does; the engine runs all other statements."""

        def __init__(self) -> None:
            self._cursor = spark.cursor()
            self._found: Any = None

        def cursor(self) -> Any:
            return Volume()

        def execute(self, statement: str, parameters: Any = None) -> None:
            verb = statement.split(maxsplit=1)[0]
            self._found = (
                [(path, path.rpartition("/")[2], 1, 0) for path in shelf] if verb == "LIST" else None
            )
            if verb == "LIST":
                return
            if verb not in ("PUT", "COPY", "REMOVE"):
                self._cursor.execute(statement, parameters)
                return
            heard.append(verb)
            there = next(part for part in statement.split("'") if part.startswith("/Volumes/"))
            if verb == "PUT":
                shelf[there] = pq.read_table(statement.split("'")[1])
            elif verb == "REMOVE":
                del shelf[there]
            else:
                file = tmp_path / "copied.parquet"
                pq.write_table(shelf[there], file)
                names = ", ".join(f"`{name}`" for name in shelf[there].schema.names)
                self._cursor.execute(
                    f"INSERT INTO {statement.split()[2]} ({names}) SELECT {names} FROM parquet.`{file}`"
                )

        def fetchall(self) -> Any:
            return self._cursor.fetchall() if self._found is None else self._found

        def close(self) -> None:
            """Nothing."""

    stamped = replace(
        engine,
        dialect_class=lambda **options: engine.dialect_class(**options | {"stamp": "20261122120000000000"}),
    )
    load(stamped, connect=lambda: WithVolume(Volume(), "/Volumes/main/default/voiceos/"))
    assert heard == ["REMOVE", *["PUT", "COPY", "REMOVE"] * len(TABLES)]
    assert list(shelf) == kept
    assert engine.count(CONVERSATIONS) == 2


@pytest.mark.parametrize(
    ("message", "said", "transient"),
    [
        (
            "[DELTA_CONCURRENT_APPEND] Transaction conflict detected. SQLSTATE: 2D521",
            "SQLSTATE 40001, code DELTA_CONCURRENT_APPEND",
            True,
        ),
        (
            "[INSUFFICIENT_PERMISSIONS] Insufficient privileges: User does not have MODIFY. SQLSTATE: 42501",
            "does not have MODIFY",
            False,
        ),
        (
            "[CAST_INVALID_INPUT] The value '+15550100' cannot be cast. SQLSTATE: 22018",
            "SQLSTATE 22018",
            False,
        ),
    ],
)
def test_databricks_errors_say_who_can_resolve_them(message: str, said: str, transient: bool) -> None:  # noqa: FBT001
    """Error class and SQLSTATE decide it; a conflict is retryable, and no value is repeated."""
    from databricks.sql.exc import RequestError, ServerOperationError

    dialect = dialect_named("databricks")
    failure = dialect.classify(ServerOperationError(message, {}))
    reported = failure.to_exception("Databricks", "write")
    assert said in str(reported)
    assert failure.transient == transient
    assert "5550100" not in str(reported)
    assert dialect.classify(RequestError("no route", {})).lost
    assert isinstance(reported, VoiceOSExportError)


def test_databricks_is_reached_through_its_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    """Host, path and token are those of the connection, which may upload files if it names a volume."""
    from airflow.providers.databricks.hooks import databricks_sql

    asked: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def connected(*args: Any, **options: Any) -> str:
        asked.append((args, options))
        return "open"

    monkeypatch.setattr(databricks_sql.sql, "connect", connected)
    extra = {"http_path": "/sql/1.0/warehouses/1", "volume": "/Volumes/main/voice/files"}
    host = "https://x.cloud.databricks.com"
    _connect(monkeypatch, "warehouse", "databricks", host=host, password="a token", extra=extra)
    database = find_database("warehouse", hook_params={"catalog": "main"})
    assert database.connect() == WithVolume("open", "/Volumes/main/voice/files")
    ((args, options),) = asked
    assert args == ("x.cloud.databricks.com", "/sql/1.0/warehouses/1", "a token")
    assert options["catalog"] == "main"
    assert options["staging_allowed_local_path"] == tempfile.gettempdir()
    assert (
        database.uri("voice", "conversations")
        == "databricks://x.cloud.databricks.com/main/voice/conversations"
    )
