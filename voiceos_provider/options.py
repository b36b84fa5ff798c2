"""Options of one export, validated once.

This module imports nothing heavy, so that operators can use its types while a DAG file is parsed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, get_args

from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.interval import VISIBILITY_DELAY, Interval, as_span

if TYPE_CHECKING:
    from voiceos_provider.transform import Redaction, Table

SchemaDrift = Literal["keep", "fail"]
ReadStrategy = Literal["windows", "pages"]

MAX_CONCURRENCY = 4
"""Requests in flight at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """What an export reads and keeps. Build it with `parse` from what a user has written.

    :param interval: the interval of creation time, in the past
    :param statuses: only conversations in these states; empty for all
    :param tables: the tables to write
    :param redaction: which personal data is kept, hashed or dropped
    :param schema_drift: ``keep`` what the contract does not document, or ``fail`` the export
    :param read_strategy: ``windows`` reads every conversation exactly once; ``pages`` counts pages, with fewer
        requests for a rare state, and may miss a conversation while others are deleted
    :param visibility_delay: reading starts this long after the interval ends, by the server's clock
    :param max_concurrency: requests in flight at a time
    :param max_bad_records: conversations without a usable id that may be set aside before the export fails
    :param carry_pending: how far back to look for conversations of earlier intervals that had not ended; None for
        not at all
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
        """Return the options that a user has written, as Airflow's templates leave them.

        :param interval: the interval of creation time
        :param status: one state or several; None for all
        :param tables: names of tables; None for all
        :param redaction: choices such as ``{"phone_numbers": "hash"}``; None keeps everything
        :param phone_hash_key: the key of hashed phone numbers
        :raises VoiceOSValueError: if a value is unknown or out of range; the message names the parameter
        """
        from voiceos_provider.transform import Redaction, choose_tables

        if redaction is not None and not isinstance(redaction, Mapping):  # a template renders to a text
            raise VoiceOSValueError(
                f"redaction {redaction!r} is not a mapping; write {{'messages': 'drop'}}."
            )
        for name, number, least in (
            ("max_concurrency", max_concurrency, 1),
            ("max_bad_records", max_bad_records, 0),
        ):
            if number < least:
                raise VoiceOSValueError(f"{name} {number} is less than {least}.")
        return cls(
            interval=interval,
            statuses=parse_statuses(status),
            tables=choose_tables(tables),
            redaction=Redaction.choose(redaction, phone_hash_key),
            schema_drift=_choice("schema_drift", schema_drift, SchemaDrift),
            read_strategy=_choice("read_strategy", read_strategy, ReadStrategy),
            visibility_delay=as_span("visibility_delay", visibility_delay),
            max_concurrency=max_concurrency,
            max_bad_records=max_bad_records,
            carry_pending=None if carry_pending is None else as_span("carry_pending", carry_pending),
        )


def parse_statuses(status: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return one state, several or none, without repetition.

    :raises VoiceOSValueError: if the API cannot be asked for one of them
    """
    from voiceos_provider.client.requests import require_statuses

    if status is None or status in ("", "None"):
        return ()
    statuses = (status,) if isinstance(status, str) else tuple(dict.fromkeys(status))
    require_statuses(statuses)
    return statuses


def _choice(name: str, value: str, choices: Any) -> Any:
    if value not in get_args(choices):
        raise VoiceOSValueError(f"{name} {value!r} is not one of {', '.join(get_args(choices))}.")
    return value
