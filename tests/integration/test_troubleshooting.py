"""The messages in docs/troubleshooting.md, compared with those of real runs."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from urllib.request import Request, urlopen

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from tests.support import databases, permissions
from voiceos_provider.emulator import Emulator
from voiceos_provider.transfers.voiceos_to_object_storage import VoiceOSToObjectStorageOperator
from voiceos_provider.transfers.voiceos_to_sql import VoiceOSToSqlOperator

PAGE = (Path(__file__).parents[2] / "docs" / "troubleshooting.md").read_text()
ROWS = {
    what: (message, then)
    for what, message, then in re.findall(
        r"^\| (?!what|---)(.*?) \| (.*?) \| (fails|retried) \|$", PAGE, re.MULTILINE
    )
}

Wrong = dict[str, Any]

WRONG: dict[str, Wrong] = {
    "no connection": {"voiceos": None},
    "a connection of another type": {"voiceos": {"conn_type": "http"}},
    "no token in it": {"voiceos": {"password": ""}},
    "the token is refused": {"voiceos": {"password": "wrong"}},
    "an extra out of bounds": {"voiceos": {"extra": {"page_size": 0}}},
    "plain HTTP to another machine": {"voiceos": {"host": "http://api.example.com"}},
    "no such host": {"voiceos": {"host": "https://api.voiceos.invalid", "extra": {"max_attempts": 1}}},
    "no server listens at the host": {
        "voiceos": {"host": "http://127.0.0.1:9", "extra": {"max_attempts": 1}}
    },
    "the host is not the API": {"voiceos": {"path": "/elsewhere"}},
    "a state that the API does not have": {"status": "finished"},
    "the store's package is not installed": {"path": "gs://my-bucket/voiceos"},
    "no such kind of store": {"path": "s4://my-bucket/voiceos"},
    "a relative path": {"path": "voiceos"},
    "a path below a file": {"path": "{tmp}/file"},
    "an interval that was written with other arguments": {"tables": ["conversations"]},
    "a folder that may not be written": {"path": "{tmp}/forbidden/voiceos"},
    "no such bucket": {"path": "s3://no-such-bucket/voiceos", "storage_conn_id": "aws_default"},
    "no right to write into the bucket": {"path": "s3://my-bucket/voiceos", "storage_conn_id": "aws_reader"},
    "no storage connection": {"path": "s3://my-bucket/voiceos", "storage_conn_id": "aws_default"},
    "no database connection": {"warehouse": None},
    "the database's package is not installed": {"warehouse": {"conn_type": "snowflake"}},
    "the database is down": {"warehouse": {"host": "127.0.0.1", "port": 9}},
    "the database refuses the login": {"warehouse": {"login": "unknown_user"}},
    "no such database": {"warehouse": {"schema": "nowhere"}},
    "no such schema": {"warehouse": {}, "schema": "nowhere"},
    "no right to create the tables": {"warehouse": {"login": "reader"}},
    "no room for the rows on the worker": {"tempdir": "{tmp}/gone"},
    "a plain cron in Airflow 3": {"interval_end": timedelta()},
    "a run without a data interval": {"interval_start": None, "interval_end": None},
    "an interval that is not over": {"interval_end": timedelta(days=9)},
}


FIRST_HOUR = (Path(__file__).parents[2] / "docs" / "first-hour.md").read_text()


def test_every_row_of_the_page_is_provoked() -> None:
    """The cases of this module are the rows of the page."""
    assert list(ROWS) == list(WRONG)


def test_messages_of_the_first_hour_are_current() -> None:
    """The page of the first hour quotes logs in the words that are checked here."""
    _, table = FIRST_HOUR.split("| what is wrong | the last line |")
    rows = re.findall(r"^\| (.*?) \| (.*) \|$", table.partition("<!--")[0], re.MULTILINE)
    assert len(rows) > 20
    for what, cell in rows:
        message, _ = ROWS[what]
        for line in re.findall(r"`(.*?)`", cell):
            assert matches(message, re.sub(r"^([\w.]+: )+", "", line)), what


def matches(message: str, said: str) -> bool:
    """Return whether the message matches, apart from its variable parts."""
    return bool(re.fullmatch(".*".join(map(re.escape, message.split("..."))), said, re.DOTALL))


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, Any]]:
    """Yield a PostgreSQL server whose user `reader` may create nothing."""
    import psycopg

    with databases.postgres_server() as uri:
        with psycopg.connect(uri, autocommit=True) as connection:
            connection.execute("CREATE ROLE reader LOGIN")
        host = parse_qs(urlsplit(uri).query)["host"][0]
        yield {"conn_type": "postgres", "host": host, "login": "postgres", "schema": "postgres"}


@pytest.fixture
def reader(s3_url: str, connect: Callable[..., str]) -> Iterator[None]:
    """Yield the connection `aws_reader`, whose user has no permissions."""
    import boto3

    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    iam = boto3.client("iam", endpoint_url=s3_url, **keys)
    iam.create_user(UserName="reader")
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    extra = {"endpoint_url": s3_url, "region_name": "us-east-1"}
    connect(
        "aws_reader",
        conn_type="aws",
        login=key["AccessKeyId"],
        password=key["SecretAccessKey"],
        extra=extra,
    )
    allow_requests(s3_url, b"0")
    yield
    allow_requests(s3_url, b"inf")
    iam.delete_access_key(UserName="reader", AccessKeyId=key["AccessKeyId"])
    iam.delete_user(UserName="reader")


def allow_requests(endpoint: str, requests: bytes) -> None:
    """Let this number of requests pass before the store enforces policies."""
    plain = {"Content-Type": "text/plain"}
    urlopen(Request(f"{endpoint}/moto-api/reset-auth", data=requests, headers=plain)).close()


@pytest.mark.parametrize("what", WRONG)
def test_message_equals_that_of_the_page(
    what: str,
    emulator: Emulator,
    connect: Callable[..., str],
    airflow_db: None,
    yesterday: tuple[datetime, datetime],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """Airflow retries the task only if the page says so."""
    wrong = copy.deepcopy(WRONG[what])
    (tmp_path / "file").write_text("")
    (tmp_path / "forbidden").mkdir(mode=0o555)
    kind: Callable[..., Any] = VoiceOSToObjectStorageOperator
    arguments: dict[str, Any] = {
        "path": str(tmp_path / "out"),
        "interval_start": yesterday[0],
        "interval_end": yesterday[1],
    }
    if what == "no such bucket":
        request.getfixturevalue("s3_connection")
    if what == "no right to write into the bucket":
        request.getfixturevalue("reader")
    if "warehouse" in wrong:
        kind, warehouse = VoiceOSToSqlOperator, wrong.pop("warehouse")
        arguments.pop("path")
        arguments["sql_conn_id"] = "warehouse"
        if warehouse is not None:
            connect("warehouse", **request.getfixturevalue("server") | warehouse)
    if "tempdir" in wrong:
        monkeypatch.setattr("tempfile.tempdir", wrong.pop("tempdir").replace("{tmp}", str(tmp_path)))
    with emulator.serve() as url:
        changed = wrong.pop("voiceos", {})
        if changed is None:
            monkeypatch.delenv("AIRFLOW_CONN_VOICEOS_DEFAULT", raising=False)
        else:
            fields = {
                "host": url + changed.pop("path", "") if "path" in changed else url,
                "password": emulator.token,
            }
            connect(**fields | changed)
        if what == "an interval that was written with other arguments":
            kind(task_id="earlier", **arguments).execute({})
        for name, value in wrong.items():
            changed_value = yesterday[0] + value if isinstance(value, timedelta) else value
            arguments[name] = (
                changed_value.replace("{tmp}", str(tmp_path)) if isinstance(value, str) else changed_value
            )
        operator = kind(task_id="export", **arguments)
        limited = (
            permissions.without_root_rights() if "forbidden" in str(arguments.get("path")) else nullcontext()
        )
        with limited, pytest.raises(Exception) as caught:  # noqa: PT011  the page says which
            operator.execute({})
    message, then = ROWS[what]
    said = re.sub(r"^VoiceOS\w+: ", "", str(caught.value))
    assert matches(message, said), said
    assert isinstance(caught.value, AirflowFailException) == (then == "fails")
