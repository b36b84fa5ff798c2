"""Wrong input of operators: each message names the cause and the cure. Nothing is sent, and nothing is retried."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.exceptions import AirflowNotFoundException
from airflow.providers.common.compat.sdk import AirflowFailException

from voiceos_provider.emulator import Emulator, Fault, World
from voiceos_provider.exceptions import VoiceOSDestinationError
from voiceos_provider.operators.voiceos import VoiceOSListConversationsOperator
from voiceos_provider.transfers.voiceos_to_object_storage import VoiceOSToObjectStorageOperator

Day = tuple[datetime, datetime]


@pytest.fixture
def run(tmp_path: Path, yesterday: Day) -> Callable[..., Any]:
    """Return a function that executes the transfer as Airflow does after rendering its templates."""

    def execute(**arguments: Any) -> Any:
        defaults = {
            "path": str(tmp_path),
            "interval_start": str(yesterday[0]),
            "interval_end": str(yesterday[1]),
        }
        return VoiceOSToObjectStorageOperator(task_id="export", **{**defaults, **arguments}).execute({})

    return execute


def refusal(run: Callable[..., Any], **arguments: Any) -> str:
    """Return the message of the failure that ends the task without a retry."""
    with pytest.raises(AirflowFailException) as caught:
        run(**arguments)
    return str(caught.value)


def test_no_password(run: Callable[..., Any], connect: Callable[..., str]) -> None:
    """The message names the connection and the field."""
    connect(host="https://api.example.com")
    assert "Connection 'voiceos_default' has no API token. Set it in the Password field." in refusal(run)


def test_a_host_that_is_not_a_url(run: Callable[..., Any], connect: Callable[..., str]) -> None:
    """The message shows the host and a valid one."""
    connect(host="ftp://api.example.com", password="token")
    assert (
        "write the host like https://api.voiceos.io. 'ftp://api.example.com' is not a base URL."
        in refusal(run)
    )


def test_plain_http_to_another_machine(run: Callable[..., Any], connect: Callable[..., str]) -> None:
    """The token is not sent unencrypted."""
    connect(host="http://api.example.com", password="token")
    assert "Plain http to api.example.com would send the token unencrypted" in refusal(run)


def test_a_rejected_token_fails_at_once(
    run: Callable[..., Any], emulator: Emulator, connect: Callable[..., str], tmp_path: Path
) -> None:
    """One request, no retry, nothing written."""
    with emulator.serve() as url:
        connect(host=url, password="wrong-token")
        message = refusal(run)
    assert message.startswith("VoiceOSAuthError: GET /conversations: 401: Invalid token")
    assert "Check the token in the connection's password field." in message
    assert len(emulator.requests) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        (
            "2026-01-01T00:00:00Z",
            "2026-01-01T00:00:00Z",
            "interval_start and interval_end are both 2026-01-01T00:00:00Z: an empty interval. Airflow 3 gives a "
            "plain cron schedule such as '@daily' no data interval; use schedule=CronDataIntervalTimetable(",
        ),
        (
            "2026-01-02T00:00:00Z",
            "2026-01-01T00:00:00Z",
            "interval_start 2026-01-02T00:00:00Z is after interval_end",
        ),
        (
            "2026-01-01T00:00:00",
            "2026-01-02T00:00:00Z",
            "interval_start 2026-01-01T00:00:00 has no time zone",
        ),
        ("2026-01-01", "2026-01-01", "Leave interval_end out to export that day."),
        (
            "yesterday",
            "2026-01-02T00:00:00Z",
            "interval_start 'yesterday' is not a date-time. Write ISO 8601",
        ),
        ("None", "None", "VoiceOSValueError: Set interval_start, for example '2026-11-20' for that UTC day"),
        (None, None, "This DAG run has no data interval: Airflow 3 gives none to a run"),
    ],
)
def test_an_invalid_interval(
    run: Callable[..., Any], connect: Callable[..., str], start: str | None, end: str | None, said: str
) -> None:
    """Each message names the parameter and the cure."""
    connect(password="token")
    assert said in refusal(run, interval_start=start, interval_end=end)


def test_an_interval_that_has_not_ended(run: Callable[..., Any], connect: Callable[..., str]) -> None:
    """Rows would still arrive, so the export is refused instead of being incomplete."""
    connect(password="token")
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    message = refusal(run, interval_end=tomorrow)
    assert "is in the future" in message
    assert "Run after the interval has ended." in message


def test_an_unknown_status(run: Callable[..., Any], connect: Callable[..., str]) -> None:
    """The message lists the states."""
    connect(password="token")
    assert "status 'done' is not one of queued, started, ended." in refusal(run, status=["ended", "done"])


def test_an_unknown_format(run: Callable[..., Any], connect: Callable[..., str]) -> None:
    """The message lists the formats."""
    connect(password="token")
    assert "file_format 'xlsx' is not one of parquet, jsonl, csv." in refusal(run, file_format="xlsx")


def test_a_compression_that_does_not_fit(run: Callable[..., Any], connect: Callable[..., str]) -> None:
    """The message lists the compressions of that format."""
    connect(password="token")
    message = refusal(run, file_format="csv", compression="snappy")
    assert "compression 'snappy' is not one of none, gzip, zstd, those of csv." in message


def test_an_unknown_layout(run: Callable[..., Any], connect: Callable[..., str]) -> None:
    """The message lists the layouts."""
    connect(password="token")
    assert "layout 'tree' is not one of flat, hive." in refusal(run, layout="tree")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("file:///data/../etc", "has the step '..'; check the template."),
        ("s3://bucket/a//b", "has the step ''"),
        ("/data/None/x", "has the step 'None'"),
        (
            "file://data/x",
            "is relative; write an absolute one or a URL, such as s3://bucket/voiceos or file:///data",
        ),
        ("exports/voiceos", "is relative; write an absolute one or a URL, such as s3://bucket/voiceos"),
        ("s3://", "has no folder or bucket to write to"),
        ("/data/x\ny", "holds a control character"),
    ],
)
def test_an_unsafe_path(run: Callable[..., Any], connect: Callable[..., str], path: str, said: str) -> None:
    """A rendered path with `..`, or an incomplete one, is refused before anything is read."""
    connect(password="token")
    assert said in refusal(run, path=path)


@pytest.mark.parametrize(
    ("scheme", "extra"), [("gs", "gcs"), ("gcs", "gcs"), ("abfss", "azure"), ("adl", "azure")]
)
def test_a_store_whose_package_is_missing(
    run: Callable[..., Any], connect: Callable[..., str], scheme: str, extra: str
) -> None:
    """The message says what to install."""
    connect(password="token")
    said = refusal(run, path=f"{scheme}://bucket/voiceos")
    assert f"pip install 'airflow-provider-voiceos[{extra}]'" in said


def test_a_missing_storage_connection(run: Callable[..., Any], api: Emulator, tmp_path: Path) -> None:
    """Airflow's own error names it. Nothing is read, and nothing is written with default credentials."""
    with pytest.raises(AirflowNotFoundException, match="no_such_store"):
        run(storage_conn_id="no_such_store")
    assert api.requests == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            {"tables": ["conversations", "calls"]},
            "tables: 'calls' is not one of conversations, conversation_costs, conversation_messages, agent_configs.",
        ),
        ({"tables": "Conversations"}, "tables: 'Conversations' is not one of conversations, "),
        ({"tables": []}, "tables is empty. Leave it out to export all tables."),
        (
            {"redaction": {"names": "drop"}},
            "redaction: 'names' is not one of phone_numbers, messages, prompts, metadata.",
        ),
        ({"redaction": {"messages": "hash"}}, "redaction: messages 'hash' is not one of keep, drop."),
        (
            {"redaction": {"phone_numbers": "mask"}},
            "redaction: phone_numbers 'mask' is not one of keep, drop, hash.",
        ),
        ({"redaction": "drop"}, "redaction 'drop' is not a mapping; write {'messages': 'drop'}."),
        ({"schema_drift": "warn"}, "schema_drift 'warn' is not one of keep, fail."),
    ],
)
def test_an_unknown_choice(
    run: Callable[..., Any], api: Emulator, tmp_path: Path, arguments: dict[str, Any], said: str
) -> None:
    """The message names the parameter, the value and the choices; nothing is read."""
    assert said in refusal(run, **arguments)
    assert api.requests == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("extra", [{}, {"phone_hash_key": ""}, {"phone_hash_key": "guess-me"}])
def test_hashes_without_a_long_key(
    run: Callable[..., Any], connect: Callable[..., str], extra: dict[str, str]
) -> None:
    """The message names the extra field and the connection, and does not repeat a short key."""
    connect(password="token", extra=extra)
    message = refusal(run, redaction={"phone_numbers": "hash"})
    assert "at least 16 characters. Set the extra field phone_hash_key of the VoiceOS connection" in message
    assert "guess-me" not in message


def test_schema_drift_may_fail_the_task(
    run: Callable[..., Any], api: Emulator, world: World, yesterday: Day, tmp_path: Path
) -> None:
    """The error is non-retryable and names the value; nothing is written."""
    world.set_status(world.ids(created_after=yesterday[0])[0], "on_hold")
    assert "on_hold" in refusal(run, schema_drift="fail")
    assert list(tmp_path.rglob("*.*")) == []
    assert run()["undocumented_values"] == {"conversations.status": ["on_hold"]}


def test_page_size_zero(run: Callable[..., Any], connect: Callable[..., str]) -> None:
    """The message names the extra field and its limit."""
    connect(password="token", extra={"page_size": 0})
    assert "page_size: Input should be greater than or equal to 1" in refusal(run)


def test_a_server_that_ignores_the_window(run: Callable[..., Any], api: Emulator, tmp_path: Path) -> None:
    """The export fails, because it would hold the wrong rows."""
    api.faults.add(Fault.ignore_window(), probability=1.0)
    message = refusal(run)
    assert "the server ignores created_after or created_before" in message
    assert list(tmp_path.rglob("*.*")) == []


def test_a_page_without_items(
    run: Callable[..., Any], emulator: Emulator, connect: Callable[..., str], tmp_path: Path
) -> None:
    """A body of another shape is requested again; the error names the shape."""
    emulator.faults.add(Fault.items_missing(), probability=1.0)
    with emulator.serve() as url:
        connect(host=url, password=emulator.token, extra={"max_attempts": 2})
        with pytest.raises(Exception, match="200, but the page has no 'items'"):
            run()
    assert len(emulator.requests) == 2
    assert list(tmp_path.rglob("*.*")) == []


def test_a_folder_that_may_not_be_written(run: Callable[..., Any], api: Emulator, tmp_path: Path) -> None:
    """The error names the folder and the store's own reason; Airflow may retry it."""
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(VoiceOSDestinationError, match=f"{blocked}.*NotADirectoryError"):
        run(path=str(blocked))


class TestList:
    """The same, for the operator that returns rows."""

    def test_too_many_rows_name_the_transfer(self, api: Emulator, yesterday: Day) -> None:
        operator = VoiceOSListConversationsOperator(
            task_id="list",
            interval_start=yesterday[0],
            interval_end=yesterday[1],
            max_rows=10,
            max_concurrency=1,
        )
        with pytest.raises(
            AirflowFailException, match=r"more than max_rows=10 .*VoiceOSToObjectStorageOperator"
        ):
            operator.execute({})
        assert len(api.requests) < 18  # of the 25 that the day takes, with some read ahead

    def test_too_many_bytes_name_the_cure(self, api: Emulator, yesterday: Day) -> None:
        operator = VoiceOSListConversationsOperator(
            task_id="list", interval_start=yesterday[0], interval_end=yesterday[1], max_bytes=10_000
        )
        with pytest.raises(
            AirflowFailException, match="more than max_bytes=10,000 bytes; select fewer columns"
        ):
            operator.execute({})

    def test_an_unknown_column_is_named(self, api: Emulator, yesterday: Day) -> None:
        operator = VoiceOSListConversationsOperator(
            task_id="list", interval_start=yesterday[0], interval_end=yesterday[1], columns=["cost"]
        )
        with pytest.raises(AirflowFailException, match="columns 'cost' do not exist"):
            operator.execute({})
