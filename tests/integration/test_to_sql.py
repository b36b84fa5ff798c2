"""The operator that loads databases, run by Airflow."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, Asset, AssetAlias, BaseHook

from tests.support import databases
from voiceos_provider.emulator import Emulator, World
from voiceos_provider.exceptions import VoiceOSDestinationError, VoiceOSValueError
from voiceos_provider.transfers.voiceos_to_sql import VoiceOSToSqlOperator
from voiceos_provider.utils.databases import _Opener, find_database

Day = tuple[datetime, datetime]


@pytest.fixture(scope="session")
def postgres_uri() -> Iterator[str]:
    """Yield a PostgreSQL server, once for all tests."""
    with databases.postgres_server() as uri:
        yield uri


@pytest.fixture
def postgres(postgres_uri: str, connect: Callable[..., str]) -> str:
    """Return a connection to the server, with extras of libpq."""
    host = parse_qs(urlsplit(postgres_uri).query)["host"][0]
    extra = {
        "application_name": "it's us",
        "sslmode": "prefer",
        "keepalives_idle": 30,
        "cursor": "dictcursor",
    }
    return connect("warehouse", "postgres", host=host, login="postgres", schema="postgres", extra=extra)


def operator(yesterday: Day, sql_conn_id: str = "warehouse", **arguments: Any) -> VoiceOSToSqlOperator:
    """Return an operator that loads yesterday's conversations."""
    start, end = (at.isoformat() for at in yesterday)
    return VoiceOSToSqlOperator(
        task_id="load", sql_conn_id=sql_conn_id, interval_start=start, interval_end=end, **arguments
    )


def test_nightly_load_holds_each_conversation_of_the_api_once(
    examples: dict[str, Any],
    run_in_airflow: Callable[..., Any],
    api: Emulator,
    world: World,
    yesterday: Day,
    connect: Callable[..., str],
    tmp_path: Path,
) -> None:
    """The example DAG fills a DuckDB file; a second run repeats no row."""
    import duckdb

    connect("my_duckdb", "duckdb", host=str(tmp_path / "voiceos.duckdb"))
    for _ in range(2):
        run = run_in_airflow(examples["voiceos_nightly_warehouse"], run_conf={"sql_conn_id": "my_duckdb"})
        assert run.state == "success"
    with duckdb.connect(str(tmp_path / "voiceos.duckdb")) as file:
        found = [id_ for (id_,) in file.execute("SELECT id FROM conversations ORDER BY id").fetchall()]
    start, end = yesterday
    assert found == sorted(world.ids(created_after=start - (end - start) * 2, created_before=end))


def test_extras_of_a_postgres_connection_reach_the_server(postgres: str) -> None:
    """Required encryption is used, and the address has no password."""
    database = find_database(postgres)
    assert database.address == "postgres://localhost:5432"
    with database.connect() as connection, connection.cursor() as cursor:
        assert type(connection).__module__.startswith("adbc_driver_manager")
        cursor.execute("SELECT current_setting('application_name')")
        assert cursor.fetchone() == ("it's us",)
        cursor.execute("SELECT current_user, current_database()")
        assert cursor.fetchone() == ("postgres", "postgres")


def test_postgres_is_loaded_through_its_connection(
    run_in_airflow: Callable[..., Any],
    api: Emulator,
    world: World,
    yesterday: Day,
    postgres: str,
    postgres_uri: str,
) -> None:
    """Tables are in the requested schema, and the receipt is in XCom and the alias event."""
    engine = databases.postgres_engine(postgres_uri)
    engine.run("CREATE SCHEMA voice")
    with DAG(dag_id="to_postgres", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        load = operator(
            yesterday, schema="voice", table_prefix="{{ dag.dag_id }}_", outlets=[AssetAlias("voiceos_rows")]
        )
    assert load.task_id == "load"
    run = run_in_airflow(dag)
    assert run.state == "success"
    receipt = run.get_task_instance("load").xcom_pull(task_ids="load")
    expected = len(world.ids(created_after=yesterday[0], created_before=yesterday[1]))
    assert receipt["tables"]["conversations"]["inserted"] == expected
    assert engine.rows("SELECT count(*) FROM voice.to_postgres_conversations") == [(expected,)]
    assert receipt["target"].endswith("/postgres/voice/to_postgres_conversations")
    ((comment,),) = engine.rows("SELECT obj_description('voice.to_postgres_conversations'::regclass)")
    assert comment == "One row per conversation."


def test_sqlite_needs_only_a_file(
    api: Emulator, world: World, yesterday: Day, connect: Callable[..., str], tmp_path: Path
) -> None:
    """The package of its hook may be missing."""
    connect("file", "sqlite", host=str(tmp_path / "voiceos.db"))
    operator(yesterday, "file", write_disposition="replace").execute({})
    with sqlite3.connect(tmp_path / "voiceos.db") as file:
        ((found,),) = file.execute("SELECT count(*) FROM conversations").fetchall()
        ((dollars,),) = file.execute(
            "SELECT sum(total_cost) FROM conversations WHERE started_at > '2000'"
        ).fetchall()
    file.close()
    assert found == len(world.ids(created_after=yesterday[0], created_before=yesterday[1]))
    assert dollars > 1


@pytest.mark.skipif(
    not databases.HAS_MARIADB and "mariadb" not in databases.REQUIRED_ENGINES,
    reason="MariaDB or its Python client is not installed",
)
def test_mysql_is_loaded_through_its_hook(
    api: Emulator, world: World, yesterday: Day, connect: Callable[..., str]
) -> None:
    """The connection allows the client to send files."""
    with databases.mariadb_server() as address:
        engine = databases.mariadb_engine(address)
        engine.run("CREATE DATABASE voice")
        extra = {"unix_socket": address["unix_socket"], "local_infile": True, "charset": "utf8mb4"}
        connect("maria", "mysql", host="localhost", login="root", schema="voice", extra=extra)
        operator(yesterday, "maria").execute({})
        receipt = operator(yesterday, "maria").execute({})
        assert engine.rows("SELECT count(*) FROM voice.conversations") == [(receipt["exported"],)]
        assert receipt["tables"]["conversations"]["inserted"] == 0


def test_configuration_errors_are_reported_before_any_read(
    api: Emulator, yesterday: Day, postgres: str, postgres_uri: str, connect: Callable[..., str]
) -> None:
    """The message says what to change, and where."""
    engine = databases.postgres_engine(postgres_uri)
    engine.run("CREATE SCHEMA closed", "CREATE ROLE reader LOGIN", "GRANT USAGE ON SCHEMA closed TO reader")
    engine.run("CREATE SCHEMA odd", "CREATE TABLE odd.conversations (id text, started_at integer)")
    host = parse_qs(urlsplit(postgres_uri).query)["host"][0]
    connect("reader", "postgres", host=host, login="reader", schema="postgres")
    connect("nowhere", "postgres", host=host, login="postgres", schema="no_such_database")
    connect("unknown", "no_such_type", host="x")
    refusals: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (AirflowFailException, "Change the column started_at of .* the column is integer", {"schema": "odd"}),
        (AirflowFailException, "write_disposition 'upsert' is not one of", {"write_disposition": "upsert"}),
        (AirflowFailException, "longer|at most 63 bytes", {"table_prefix": "x" * 60}),
        (
            AirflowFailException,
            "type 'no_such_type', whose hook is not installed",
            {"sql_conn_id": "unknown"},
        ),
        (VoiceOSDestinationError, 'connect .*"no_such_database" does not exist', {"sql_conn_id": "nowhere"}),
        (
            AirflowFailException,
            "no schema.*nonesuch|schema.*nonesuch.*does not exist",
            {"schema": "nonesuch"},
        ),
        (
            AirflowFailException,
            "permission denied for schema closed",
            {"sql_conn_id": "reader", "schema": "closed"},
        ),
        (
            AirflowFailException,
            "table .* is missing, and create_tables=False",
            {"create_tables": False, "table_prefix": "q"},
        ),
    ]
    for kind, message, arguments in refusals:
        with pytest.raises(kind, match=f"(?s){message}"):
            operator(yesterday, **arguments).execute({})
    # Only probe requests were sent, each for a single conversation.
    assert {request.query.get("limit") for request in api.requests} == {"1"}


def test_no_value_of_a_row_is_in_the_log_or_the_error(
    run_in_airflow: Callable[..., Any],
    api: Emulator,
    yesterday: Day,
    postgres: str,
    postgres_uri: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The server's message quotes the phone number; ours names the constraint."""
    engine = databases.postgres_engine(postgres_uri)
    engine.run("CREATE SCHEMA strict")
    operator(yesterday, schema="strict").execute({})
    engine.run(
        "TRUNCATE strict.conversations, strict.conversation_messages",
        "ALTER TABLE strict.conversations ADD CONSTRAINT no_numbers CHECK (from_number IS NULL)",
    )
    with DAG(dag_id="strict", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        operator(yesterday, schema="strict")
    with caplog.at_level(logging.DEBUG):
        assert run_in_airflow(dag).state == "failed"
    said = caplog.text + "".join(capfd.readouterr())
    assert "no_numbers" in said
    assert "23514" in said
    assert "+1" not in said
    assert "Failing row" not in said


def test_asset_event_carries_the_receipt(
    run_in_airflow: Callable[..., Any],
    api: Emulator,
    yesterday: Day,
    connect: Callable[..., str],
    tmp_path: Path,
) -> None:
    """The receipt is plain JSON."""
    connect("file", "sqlite", host=str(tmp_path / "voiceos.db"))
    with DAG(dag_id="sqlite_outlet", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        operator(yesterday, "file", outlets=[Asset("x-voiceos://rows")])
    run = run_in_airflow(dag)
    receipt = run.get_task_instance("load").xcom_pull(task_ids="load")
    assert json.loads(json.dumps(receipt)) == receipt
    assert receipt["tables"]["agent_configs"]["inserted"] > 0


def test_unknown_dialect_lists_the_known_ones(postgres: str) -> None:
    """`dialect` is for connections whose type does not name the engine."""
    with pytest.raises(VoiceOSValueError, match="'oracle' is not one of postgres"):
        find_database(postgres, dialect="oracle")


def test_unsupported_database_is_rejected_by_name(connect: Callable[..., str]) -> None:
    """The error comes before the hook is loaded, and says what to use instead."""
    for kind in ("mssql", "oracle", "trino", "teradata"):
        with pytest.raises(
            VoiceOSValueError, match=rf"Use VoiceOSToObjectStorageOperator.* an operator of {kind}: .* lacks"
        ):
            find_database(connect("other", kind, host="db.example"))


def test_placeholder_is_that_of_the_hook(
    connect: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drivers differ, and the connection type does not determine it."""
    from airflow.providers.common.sql.hooks.sql import DbApiHook

    class Own(DbApiHook):
        conn_name_attr, default_conn_name = "own_conn_id", "other"

    class QuestionMarks(Own):
        placeholder = "?"

    other = connect("other", "own_database", host="db.example")
    connection = type(BaseHook.get_connection(other))
    monkeypatch.setattr(connection, "get_hook", lambda _, **__: QuestionMarks())
    assert find_database(other).placeholder == "?"
    over_jdbc = connect("other", "jdbc", host="db.example")
    assert find_database(over_jdbc, dialect="mysql").placeholder == "?"
    monkeypatch.setattr(connection, "get_hook", lambda _, **__: Own())
    assert find_database(other).placeholder == "%s"
    monkeypatch.setattr(connection, "get_hook", lambda _, **__: BaseHook())
    with pytest.raises(VoiceOSValueError, match="is not a connection of a database"):
        find_database(other)
    assert find_database(other, dialect="clickhouse").placeholder is None


def test_file_dialect_needs_no_hook(connect: Callable[..., str], tmp_path: Path) -> None:
    """The dialect names the module that opens the file."""
    conn_id = connect("calls_db", "own_database", host=str(tmp_path / "calls.db"))
    assert find_database(conn_id, dialect="sqlite").placeholder is None


@pytest.mark.parametrize(
    ("kind", "fields", "says"),
    [
        ("sqlite", {"host": "voiceos.db"}, "Put an absolute path"),
        ("sqlite", {"host": "", "schema": "tmp/voiceos.db"}, "Put an absolute path"),
        ("sqlite", {"host": ":memory:"}, "in memory is gone"),
        ("sqlite", {"host": "file::memory:"}, "in memory is gone"),
        ("sqlite", {"host": "/tmp/x.db", "extra": {"mode": "memory"}}, "in memory is gone"),
        ("sqlite", {"host": "/tmp/x.db", "extra": {"mode": "ro"}}, "Remove mode .* read-only"),
        ("sqlite", {"host": "/tmp/x.db", "extra": {"immutable": 1}}, "Remove immutable .* read-only"),
        ("sqlite", {"host": ""}, "Put the path of the file into the Host field"),
        ("duckdb", {"host": "voiceos.duckdb"}, "Put an absolute path"),
        ("duckdb", {"host": ":memory:"}, "in memory is gone"),
        ("duckdb", {"host": "/tmp/x.duckdb", "extra": {"access_mode": "READ_ONLY"}}, "Remove access_mode"),
        ("duckdb", {"host": "/tmp/x.duckdb", "extra": {"read_only": True}}, "Remove read_only"),
        ("generic", {"host": "/tmp/x.db"}, "Set the type of the connection 'file'"),
    ],
)
def test_file_that_would_lose_rows_is_rejected_without_retry(
    kind: str,
    fields: dict[str, Any],
    says: str,
    api: Emulator,
    yesterday: Day,
    connect: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error comes before any read, and starts with the remedy."""
    monkeypatch.chdir(tmp_path)
    connect("file", kind, **fields)
    with pytest.raises(AirflowFailException, match=says):
        operator(yesterday, "file").execute({})
    assert list(tmp_path.iterdir()) == []


def test_file_is_opened_by_a_connection_without_a_type(
    api: Emulator, yesterday: Day, connect: Callable[..., str], tmp_path: Path
) -> None:
    """`dialect` is given. `airflow connections add` stores such a connection without the SQLite provider."""
    connect("file", "generic", host=str(tmp_path / "voiceos.db"))
    assert operator(yesterday, "file", dialect="sqlite").execute({})["exported"] > 0
    connect("uri", "sqlite", host="", schema=str(tmp_path / "by uri?.db"))
    assert operator(yesterday, "uri").execute({})["target"] == f"sqlite://{tmp_path}/by uri?.db/conversations"
    assert {path.name for path in tmp_path.iterdir()} == {"voiceos.db", "by uri?.db"}


NAMES: list[tuple[str, dict[str, Any], dict[str, Any], str | None, str]] = [
    ("postgres", {"host": "DB.example", "schema": "lake"}, {}, "voice", "lake.voice.conversations"),
    (
        "postgres",
        {"host": "db.example", "schema": "lake", "port": 5433},
        {},
        None,
        "lake.public.conversations",
    ),
    (
        "redshift",
        {"host": "my-cluster.abc123.us-east-1.redshift.amazonaws.com", "schema": "lake"},
        {},
        None,
        "lake.public.conversations",
    ),
    (
        "redshift",
        {"host": "10.0.0.1", "schema": "lake", "port": 5440},
        {},
        "voice",
        "lake.voice.conversations",
    ),
    ("mysql", {"host": "db.example", "schema": "lake"}, {}, None, "lake.conversations"),
    ("mysql", {"host": "db.example", "schema": "lake", "port": 3307}, {}, "voice", "voice.conversations"),
    (
        "snowflake",
        {"schema": "voice", "extra": {"account": "xy12345", "region": "eu-west-1", "database": "lake"}},
        {},
        None,
        "LAKE.VOICE.CONVERSATIONS",
    ),
    (
        "snowflake",
        {"extra": {"account": "myorg-account1", "database": "lake"}},
        {},
        "voice",
        "LAKE.VOICE.CONVERSATIONS",
    ),
    (
        "gcpbigquery",
        {"extra": {"project": "lake", "is_anonymous": True}},
        {},
        "voice",
        "lake.voice.conversations",
    ),
    (
        "databricks",
        {"host": "https://x.cloud.databricks.com", "extra": {"http_path": "/sql"}},
        {"catalog": "main"},
        "voice",
        "main.voice.conversations",
    ),
]
"""Connections, with the hook's arguments and the schema of the tables, and the name of a table in OpenLineage."""


@pytest.mark.parametrize(("kind", "fields", "hook_params", "schema", "name"), NAMES)
def test_lineage_names_equal_those_of_airflow_hooks(
    kind: str,
    fields: dict[str, Any],
    hook_params: dict[str, Any],
    schema: str | None,
    name: str,
    connect: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Compare with the hook itself where its package is installed."""
    from airflow.providers.openlineage.sqlparser import SQLParser

    from voiceos_provider.utils.openlineage import _in_database

    connect("warehouse", kind, login="me", password="secret", **fields)
    monkeypatch.setattr(_Opener, "placeholder", lambda _: "%s")
    uri = find_database("warehouse", hook_params=hook_params).uri(schema, "conversations")
    assert "secret" not in uri
    namespace, found = _in_database(uri, "conversations")
    assert found == name
    try:
        connection = BaseHook.get_connection("warehouse")
        hook = connection.get_hook(hook_params=dict(hook_params))
        hook = _bigquery_hook("warehouse") if kind == "gcpbigquery" else hook
    except Exception as error:  # noqa: BLE001  Airflow has an error of its own for it
        pytest.skip(f"the hook is not installed: {type(error).__name__}")
    info = hook.get_openlineage_database_info(connection)
    assert namespace == SQLParser.create_namespace(info)
    assert info.database in (None, name.split(".", maxsplit=1)[0], name.split(".", maxsplit=1)[0].lower())


def _bigquery_hook(conn_id: str) -> Any:
    from airflow.providers.google.cloud.hooks.bigquery import BigQueryHook

    return BigQueryHook(gcp_conn_id=conn_id, use_legacy_sql=False)
