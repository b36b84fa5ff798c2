"""What does the query string of a list request ask for, and what is wrong with it?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from voiceos_provider.emulator.instants import to_microseconds
from voiceos_provider.emulator.population import STATUSES, Status

DEFAULT_LIMIT = 100

_DATE_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_INTEGER = re.compile(r"-?\d{1,18}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuery:
    """One page of a selection; the bounds in microseconds."""

    status: Status | None = None
    created_after: int | None = None
    created_before: int | None = None
    index: int = 1
    limit: int = DEFAULT_LIMIT


class InvalidQuery(ValueError):
    """The query cannot be answered; says why, parameter by parameter, in the API's words."""

    def __init__(self, detail: list[dict[str, Any]]) -> None:
        super().__init__(detail)
        self.detail = detail


def read(query: Mapping[str, str]) -> ListQuery:
    """The question; parameters that the API does not know are ignored, as it ignores them."""
    wrong: list[dict[str, Any]] = []

    def complain(parameter: str, message: str, type: str) -> None:
        wrong.append({"loc": ["query", parameter], "msg": message, "type": type})

    def instant(parameter: str) -> int | None:
        text = query.get(parameter)
        if text is None:
            return None
        # A plus that was not percent-encoded has become a space, and is refused like any other text.
        found = _DATE_TIME.fullmatch(text)
        if found is not None:
            date, time, fraction, offset = found.groups()
            try:
                spelled = f"{date}T{time}.{(fraction or '')[:6]:0<6}{offset.upper()}"
                return to_microseconds(datetime.fromisoformat(spelled).astimezone(UTC))
            except (ValueError, OverflowError):
                pass
        complain(parameter, "invalid datetime format", "value_error.datetime")
        return None

    def positive(parameter: str, default: int) -> int:
        text = query.get(parameter)
        if text is None:
            return default
        if not _INTEGER.fullmatch(text):
            complain(parameter, "value is not a valid integer", "type_error.integer")
        elif int(text) < 1:
            complain(
                parameter, "ensure this value is greater than or equal to 1", "value_error.number.not_ge"
            )
        else:
            return int(text)
        return default

    status = query.get("status")
    if status is not None and status not in STATUSES:
        permitted = ", ".join(f"'{status}'" for status in STATUSES)
        complain(
            "status",
            f"value is not a valid enumeration member; permitted: {permitted}",
            "type_error.enum",
        )
    asked = ListQuery(
        status=cast("Status | None", status),
        created_after=instant("created_after"),
        created_before=instant("created_before"),
        index=positive("index", 1),
        limit=positive("limit", DEFAULT_LIMIT),
    )
    if wrong:
        raise InvalidQuery(wrong)
    return asked
