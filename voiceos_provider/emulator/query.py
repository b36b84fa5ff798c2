"""Query string of a list request, validated as the API does it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from voiceos_provider.emulator.population import STATUSES, Status
from voiceos_provider.emulator.timestamps import to_microseconds

DEFAULT_LIMIT = 100

_DATE_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:?\d\d)", re.ASCII
)
_INTEGER = re.compile(r"-?\d{1,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Bound:
    """One bound of a window."""

    time: int
    """Microseconds since 1970; digits beyond microseconds are cut off."""
    text: str
    """As sent, decoded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuery:
    """Parameters of one list request."""

    status: Status | None = None
    created_after: Bound | None = None
    created_before: Bound | None = None
    index: int = 1
    """As sent: whether the first page is 0 or 1 depends on the server."""
    limit: int = DEFAULT_LIMIT


class InvalidQuery(ValueError):
    """Query that the API refuses; `detail` lists the problem of each parameter, in the API's words."""

    def __init__(self, detail: list[dict[str, Any]]) -> None:
        super().__init__(detail)
        self.detail = detail


def parse_query(query: Mapping[str, str], *, first_index: int = 1) -> ListQuery:
    """Return the parameters, or raise InvalidQuery. Parameters that the API does not know are ignored, as by the API.

    :param query: decoded parameters
    :param first_index: number of the first page
    """
    problems: list[dict[str, Any]] = []

    def complain(parameter: str, message: str, type: str) -> None:
        problems.append({"loc": ["query", parameter], "msg": message, "type": type})

    def bound(parameter: str) -> Bound | None:
        text = query.get(parameter)
        if text is None:
            return None
        # A plus that is not percent-encoded is decoded to a space, and is refused like any other text.
        found = _DATE_TIME.fullmatch(text)
        if found is not None:
            date, time, fraction, offset = found.groups()
            try:
                normalized = f"{date}T{time}.{(fraction or '')[:6]:0<6}{offset.upper()}"
                return Bound(to_microseconds(datetime.fromisoformat(normalized).astimezone(UTC)), text)
            except (ValueError, OverflowError):
                pass
        complain(parameter, "invalid datetime format", "value_error.datetime")
        return None

    def integer(parameter: str, default: int, *, minimum: int) -> int:
        text = query.get(parameter)
        if text is None:
            return default
        if not _INTEGER.fullmatch(text):
            complain(parameter, "value is not a valid integer", "type_error.integer")
        elif int(text) < minimum:
            complain(
                parameter,
                f"ensure this value is greater than or equal to {minimum}",
                "value_error.number.not_ge",
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
    parsed = ListQuery(
        status=cast("Status | None", status),
        created_after=bound("created_after"),
        created_before=bound("created_before"),
        index=integer("index", first_index, minimum=first_index),
        limit=integer("limit", DEFAULT_LIMIT, minimum=1),
    )
    if problems:
        raise InvalidQuery(problems)
    return parsed
