"""docs/troubleshooting.md lists the messages that one really gets."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from voiceos_provider.emulator import Emulator
from voiceos_provider.transfers.voiceos_to_object_storage import VoiceOSToObjectStorageOperator

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
    "nobody listens at the host": {"voiceos": {"host": "http://127.0.0.1:9", "extra": {"max_attempts": 1}}},
    "the host is not the API": {"voiceos": {"path": "/elsewhere"}},
    "the store's package is not installed": {"path": "gs://my-bucket/voiceos"},
    "no such kind of store": {"path": "s4://my-bucket/voiceos"},
    "a relative path": {"path": "voiceos"},
    "a path below a file": {"path": "{tmp}/file"},
    "a folder that may not be written": {"path": "/proc/voiceos"},
    "no such bucket": {"path": "s3://no-such-bucket/voiceos", "storage_conn_id": "aws_default"},
    "no storage connection": {"path": "s3://my-bucket/voiceos", "storage_conn_id": "nobody"},
    "a plain cron in Airflow 3": {"interval_end": timedelta()},
    "a run without a data interval": {"interval_start": "None", "interval_end": "None"},
    "an interval that is not over": {"interval_end": timedelta(days=9)},
}


def test_every_row_is_provoked() -> None:
    """And every case below is in the page."""
    assert list(ROWS) == list(WRONG)


@pytest.mark.parametrize("what", WRONG)
def test_the_message_is_the_one_of_the_page(
    what: str,
    emulator: Emulator,
    connect: Callable[..., str],
    s3_connection: str,
    airflow_db: None,
    yesterday: tuple[datetime, datetime],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Word for word, but for what differs; and Airflow retries it or not, as the page says."""
    wrong = copy.deepcopy(WRONG[what])
    (tmp_path / "file").write_text("")
    arguments: dict[str, Any] = {
        "path": str(tmp_path / "out"),
        "interval_start": yesterday[0],
        "interval_end": yesterday[1],
    }
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
        for name, value in wrong.items():
            changed_value = yesterday[0] + value if isinstance(value, timedelta) else value
            arguments[name] = (
                changed_value.replace("{tmp}", str(tmp_path)) if isinstance(value, str) else changed_value
            )
        operator = VoiceOSToObjectStorageOperator(task_id="export", **arguments)
        with pytest.raises(Exception) as caught:  # noqa: PT011  the page says which
            operator.execute({})
    message, then = ROWS[what]
    said = re.sub(r"^VoiceOS\w+: ", "", str(caught.value))
    assert re.fullmatch(".*".join(map(re.escape, message.split("..."))), said, re.DOTALL), said
    assert isinstance(caught.value, AirflowFailException) == (then == "fails")
