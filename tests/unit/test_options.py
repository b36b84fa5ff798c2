"""Options of an export: each is validated once, and its message names the parameter."""

from __future__ import annotations

import inspect
from dataclasses import FrozenInstanceError, fields
from datetime import timedelta
from typing import Any

import pytest

from tests.support.exporting import DAY
from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.options import ExportOptions
from voiceos_provider.transform import TABLES, Redaction

KEY = "a key of the tests"


def test_the_defaults_export_everything() -> None:
    """All states and tables are exported, nothing is redacted, and no earlier interval is searched."""
    options = ExportOptions.parse(DAY)
    assert options == ExportOptions(interval=DAY, tables=TABLES, redaction=Redaction())
    assert (options.statuses, options.carry_pending) == ((), None)
    assert options.visibility_delay == timedelta(minutes=5)


def test_options_are_frozen_and_keyword_only() -> None:
    """Two options of the same type cannot be confused, and no one changes them on the way."""
    parameters = [*inspect.signature(ExportOptions.parse).parameters.values()]
    assert len(parameters) > 10
    assert {each.kind for each in parameters[1:]} == {inspect.Parameter.KEYWORD_ONLY}
    assert all(each.kw_only for each in fields(ExportOptions))
    with pytest.raises(FrozenInstanceError):
        ExportOptions.parse(DAY).max_concurrency = 9  # type: ignore[misc]


@pytest.mark.parametrize("missing", [None, "", " ", "None"])
@pytest.mark.parametrize("name", ["status", "tables", "redaction"])
def test_a_template_that_renders_to_nothing_is_the_default(name: str, missing: Any) -> None:
    """Airflow renders `{{ params.status }}` to the text `None` if the parameter is None."""
    arguments: dict[str, Any] = {name: missing}
    assert ExportOptions.parse(DAY, **arguments) == ExportOptions.parse(DAY)


@pytest.mark.parametrize("rendered", ["ended", ["ended"], ("ended", "ended")])
def test_one_name_may_be_a_text_or_a_list(rendered: Any) -> None:
    """Templates render texts, and lists of texts."""
    assert ExportOptions.parse(DAY, status=rendered).statuses == ("ended",)
    tables = ExportOptions.parse(DAY, tables=["agent_configs", "conversations", "agent_configs"]).tables
    assert [table.name for table in tables] == ["conversations", "agent_configs"]
    assert ExportOptions.parse(DAY, tables="conversations").tables == TABLES[:1]


def test_no_state_is_no_filter() -> None:
    """An empty list of states filters nothing; an empty list of tables is refused below."""
    assert ExportOptions.parse(DAY, status=[]).statuses == ()


@pytest.mark.parametrize("duration", [60, 60.0, timedelta(minutes=1)])
def test_durations_are_timedeltas_or_seconds(duration: Any) -> None:
    """This holds for each parameter that is a duration."""
    options = ExportOptions.parse(DAY, visibility_delay=duration, carry_pending=duration)
    assert options.visibility_delay == options.carry_pending == timedelta(minutes=1)


def test_redaction_gets_the_key_of_the_connection() -> None:
    """The key is not a choice of the task."""
    options = ExportOptions.parse(DAY, redaction={"phone_numbers": "hash"}, phone_hash_key=KEY)
    assert options.redaction == Redaction(phone_numbers="hash", hash_key=KEY)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"status": "done"}, "status 'done' is not one of queued, started, ended."),
        ({"status": "['ended']"}, """status "['ended']" is not one of queued, started, ended."""),
        ({"status": ["ended", ""]}, "status '' is not one of queued, started, ended."),
        ({"status": 7}, "status 7 is not a name or a list of names."),
        ({"status": ["ended", None]}, "status ['ended', None] is not a name or a list of names."),
        ({"tables": "calls"}, "tables: 'calls' is not one of conversations, "),
        ({"tables": []}, "tables is empty. Leave it out to export all tables."),
        ({"tables": [["conversations"]]}, "tables [['conversations']] is not a name or a list of names."),
        ({"redaction": "drop"}, "redaction 'drop' is not a mapping; write {'messages': 'drop'}."),
        ({"redaction": {"names": "drop"}}, "redaction: 'names' is not one of phone_numbers, "),
        ({"redaction": {"messages": ["drop"]}}, "redaction: messages ['drop'] is not one of keep, drop."),
        ({"redaction": {"phone_numbers": "hash"}}, "redaction: 'hash' needs a secret key of at least 16 "),
        ({"schema_drift": "warn"}, "schema_drift 'warn' is not one of keep, fail."),
        ({"schema_drift": None}, "schema_drift None is not one of keep, fail."),
        ({"read_strategy": "cursor"}, "read_strategy 'cursor' is not one of windows, pages."),
        ({"visibility_delay": "soon"}, "visibility_delay 'soon' is not a duration; write seconds, or "),
        ({"visibility_delay": None}, "visibility_delay None is not a duration; "),
        ({"visibility_delay": -1}, "visibility_delay -1 is not a duration; "),
        ({"visibility_delay": float("nan")}, "visibility_delay nan is not a duration; "),
        ({"carry_pending": float("inf")}, "carry_pending inf is not a duration; "),
        ({"carry_pending": True}, "carry_pending True is not a duration; "),
        ({"max_concurrency": 0}, "max_concurrency 0 is less than 1."),
        ({"max_concurrency": "4"}, "max_concurrency '4' is not a whole number."),
        ({"max_concurrency": 1.5}, "max_concurrency 1.5 is not a whole number."),
        ({"max_bad_records": -1}, "max_bad_records -1 is less than 0."),
        ({"max_bad_records": None}, "max_bad_records None is not a whole number."),
    ],
)
def test_a_wrong_value_is_refused_by_name(arguments: dict[str, Any], message: str) -> None:
    """The message begins with the parameter, repeats the value, and says what is valid."""
    with pytest.raises(VoiceOSValueError) as caught:
        ExportOptions.parse(DAY, **arguments)
    assert str(caught.value).startswith(message)
