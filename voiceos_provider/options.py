"""Options of one export, validated once.

This module imports nothing heavy, so that operators can use its types while a DAG file is parsed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, get_args

from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.interval import VISIBILITY_DELAY, Interval, as_duration, is_missing

if TYPE_CHECKING:
    from voiceos_provider.transform import Redaction, Table

SchemaDrift = Literal["keep", "fail"]
ReadStrategy = Literal["windows", "pages"]

MAX_CONCURRENCY = 4
"""Requests in flight at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """What an export reads and keeps. Use `parse` to build it from user input.

    :param interval: the interval of creation time, in the past
    :param statuses: only conversations in these states; empty for all
    :param redaction: which personal data is kept, hashed or dropped
    :param schema_drift: ``keep`` undocumented fields and values, or ``fail`` the export
    :param read_strategy: ``windows`` reads every conversation exactly once; ``pages`` counts pages, with fewer
        requests for a rare state, and may miss a conversation while others are deleted
    :param visibility_delay: reading starts this long after the interval ends, by the slower of both clocks
    :param max_concurrency: requests in flight at a time
    :param max_bad_records: conversations without a usable id that may be set aside before the export fails
    :param carry_pending: how far back earlier intervals are searched for conversations that had not ended; None to
        leave those out
    """

    interval: Interval
    statuses: tuple[str, ...] = ()
    tables: tuple[Table, ...]
    redaction: Redaction
    schema_drift: SchemaDrift = "keep"
    read_strategy: ReadStrategy = "windows"
    visibility_delay: timedelta = VISIBILITY_DELAY
    max_concurrency: int = MAX_CONCURRENCY
    max_bad_records: int = 0
    carry_pending: timedelta | None = None

    @classmethod
    def parse(
        cls,
        interval: Interval,
        *,
        status: str | Sequence[str] | None = None,
        tables: Sequence[str] | None = None,
        redaction: Mapping[str, str] | None = None,
        phone_hash_key: str | None = None,
        schema_drift: str = "keep",
        read_strategy: str = "windows",
        visibility_delay: timedelta | float = VISIBILITY_DELAY,
        max_concurrency: int = MAX_CONCURRENCY,
        max_bad_records: int = 0,
        carry_pending: timedelta | float | None = None,
    ) -> ExportOptions:
        """Validate user input, such as rendered templates, and return the options.

        :param status: one state or several; None for all
        :param tables: names of tables; None for all
        :param redaction: choices such as ``{"phone_numbers": "hash"}``; None keeps everything
        :param phone_hash_key: the key of hashed phone numbers
        :raises VoiceOSValueError: if a value is unknown or out of range; the message names the parameter
        """
        from voiceos_provider.client.requests import require_statuses
        from voiceos_provider.transform import Redaction, choose_tables

        statuses = as_names("status", status) or ()
        require_statuses(statuses)
        return cls(
            interval=interval,
            statuses=statuses,
            tables=choose_tables(as_names("tables", tables)),
            redaction=Redaction.choose(_mapping("redaction", redaction), phone_hash_key),
            schema_drift=_choice("schema_drift", schema_drift, SchemaDrift),
            read_strategy=_choice("read_strategy", read_strategy, ReadStrategy),
            visibility_delay=as_duration("visibility_delay", visibility_delay),
            max_concurrency=as_count("max_concurrency", max_concurrency, minimum=1),
            max_bad_records=as_count("max_bad_records", max_bad_records, minimum=0),
            carry_pending=None if carry_pending is None else as_duration("carry_pending", carry_pending),
        )


def as_names(name: str, value: object) -> tuple[str, ...] | None:
    """Return one name or several, without repetition; None if the value is missing.

    :param name: the parameter, for the message
    :raises VoiceOSValueError: if it is neither a name nor a list of names
    """
    if is_missing(value):
        return None
    if isinstance(value, str):
        return (value,)
    names = [*value] if isinstance(value, Iterable) else [value]
    texts = [each for each in names if isinstance(each, str)]
    if len(texts) != len(names):
        raise VoiceOSValueError(f"{name} {value!r} is not a name or a list of names.")
    return tuple(dict.fromkeys(texts))


def _mapping(name: str, value: object) -> Mapping[str, str] | None:
    if is_missing(value):
        return None
    if not isinstance(value, Mapping):  # a template of a mapping renders to a text
        raise VoiceOSValueError(f"{name} {value!r} is not a mapping; write {{'messages': 'drop'}}.")
    return value


def _choice(name: str, value: str, choices: Any) -> Any:
    if value not in get_args(choices):
        raise VoiceOSValueError(f"{name} {value!r} is not one of {', '.join(get_args(choices))}.")
    return value


def as_count(name: str, value: object, *, minimum: int) -> int:
    """Return a whole number.

    :param name: the parameter, for the message
    :raises VoiceOSValueError: if it is not one, or too small
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise VoiceOSValueError(f"{name} {value!r} is not a whole number.")
    if value < minimum:
        raise VoiceOSValueError(f"{name} {value} is less than {minimum}.")
    return value
