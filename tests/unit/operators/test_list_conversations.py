"""Personal data in a list of conversations in XCom."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from voiceos_provider.emulator import Emulator
from voiceos_provider.operators.voiceos import VoiceOSListConversationsOperator

Day = tuple[datetime, datetime]


def listed(yesterday: Day, **options: Any) -> list[dict[str, Any]]:
    """Return yesterday's conversations."""
    start, end = yesterday
    return VoiceOSListConversationsOperator(
        task_id="list", interval_start=start, interval_end=end, **options
    ).execute({})


def test_numbers_are_hashed_on_request(
    emulator: Emulator, connect: Callable[..., str], yesterday: Day
) -> None:
    """The key of the connection makes equal callers comparable."""
    with emulator.serve() as url:
        connect(host=url, password=emulator.token, extra={"phone_hash_key": "k" * 32})
        plain = listed(yesterday, columns=["id", "from_number"])
        hashed = listed(yesterday, columns=["id", "from_number"], redaction={"phone_numbers": "hash"})
    numbers = {row["id"]: row["from_number"] for row in plain}
    assert {row["id"] for row in hashed} == set(numbers)
    for row in hashed:
        assert (row["from_number"] is None) == (numbers[row["id"]] is None)
        assert row["from_number"] is None or row["from_number"] != numbers[row["id"]]
    assert any(row["from_number"] for row in hashed)


def test_unknown_choice_fails_the_task(api: Emulator, yesterday: Day) -> None:
    """Nothing is read."""
    with pytest.raises(AirflowFailException, match="redaction"):
        listed(yesterday, redaction={"phones": "hash"})
    assert not api.requests
