"""Model of the emulated server: everything that the API contract leaves open, as one value.

The defaults are the server that the contract describes. Each field is a keyword of `Emulator`, and a name that the
command line accepts in `--server NAME=VALUE`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, Literal, TypedDict, get_args, get_type_hints

from voiceos_provider.emulator.timestamps import Precision, Rounding

Order = Literal["created_desc", "created_asc", "updated_desc", "shuffled"]
ORDERS: tuple[Order, ...] = get_args(Order)

HasMore = Literal[
    "correct", "missing", "legacy_name", "integer", "total", "requested_limit", "applied_limit", "stale_total"
]
EmptyItems = Literal["array", "null", "missing"]
ReplicaChoice = Literal["random", "alternate", "always"]
BoundComparison = Literal["time", "text"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerModel:
    """Behavior of one server.

    :param order: order of a listing
    :param stored_precision: precision in which creation times are stored
    :param stored_rounding: how a creation time is rounded when it is stored
    :param bound_precision: precision in which `created_after` and `created_before` are compared
    :param after_rounding: how `created_after` is rounded before the comparison
    :param before_rounding: how `created_before` is rounded before the comparison
    :param after_inclusive: whether a conversation stored exactly at `created_after` is listed
    :param before_inclusive: whether a conversation stored exactly at `created_before` is listed
    :param bound_comparison: `text` compares the bounds as sent with stored RFC 3339 text that has six fractional
        digits, character by character; bounds with another number of digits then sort wrongly
    :param visible_after: visibility delay of a new conversation
    :param max_limit: largest page size; larger ones are clamped silently
    :param fixed_limit: page size that replaces any requested `limit`; `all` puts every row on the first page
    :param first_index: number of the first page; with 0, `index=0` is valid
    :param has_more: source of the flag. `correct`: the rows. `missing`: no flag. `legacy_name`: correct, as `has_next`.
        `integer`: correct, as 0 or 1. `total`: the number of rows. `requested_limit`: whether the page has as many rows
        as requested (wrong under a clamp). `applied_limit`: whether the page is full (wrong on a full last page).
        `stale_total`: a number of rows counted before `before_list` changes the world
    :param empty_page_has_more: whether every empty page claims that another page follows
    :param empty_items: what an empty page has as its `items`
    :param max_window: longest window; without `created_before`, the window ends now. A request without `created_after`
        is never refused
    :param max_window_status: status of the response to a longer window
    :param replica_lag: age of the world that a lagging replica lists
    :param replica_choice: which list requests the replica responds to: about half of them (seeded), every second one
        or all
    :param clock_skew: offset of the `Date` header from the true time
    :param cache_ttl: how long a response is repeated for the same URL, unless the request has `Cache-Control: no-cache`
    :param recording_bytes: size of every recording
    :param link_lasts: how long the link to a recording is valid
        or `no-store`
    """

    order: Order = "created_desc"
    stored_precision: Precision = "microseconds"
    stored_rounding: Rounding = "floor"
    bound_precision: Precision = "microseconds"
    after_rounding: Rounding = "floor"
    before_rounding: Rounding = "floor"
    after_inclusive: bool = False
    before_inclusive: bool = False
    bound_comparison: BoundComparison = "time"
    visible_after: timedelta = timedelta(0)
    max_limit: int | None = None
    fixed_limit: int | Literal["all"] | None = None
    first_index: Literal[0, 1] = 1
    has_more: HasMore = "correct"
    empty_page_has_more: bool = False
    empty_items: EmptyItems = "array"
    max_window: timedelta | None = None
    max_window_status: Literal[422, 504] = 422
    replica_lag: timedelta = timedelta(0)
    replica_choice: ReplicaChoice = "random"
    clock_skew: timedelta = timedelta(0)
    cache_ttl: timedelta = timedelta(0)
    recording_bytes: int = 20_000
    link_lasts: timedelta = timedelta(hours=1)

    def __post_init__(self) -> None:
        """Raise ValueError for a value that is not among the choices, or out of range."""
        hints = get_type_hints(ServerModel)
        for field in fields(self):
            choices, value = _choices(hints[field.name]), getattr(self, field.name)
            if choices and value not in choices and not (field.name == "fixed_limit" and _is_size(value)):
                listed = ", ".join(map(repr, choices))
                raise ValueError(f"{field.name} is {value!r}; it must be one of {listed}.")
        for name in ("max_limit", "max_window", "recording_bytes", "link_lasts"):
            value = getattr(self, name)
            if value is not None and not value > type(value)(0):
                raise ValueError(f"{name} is {value}; it must be positive.")
        for name in ("visible_after", "replica_lag", "cache_ttl"):
            if getattr(self, name) < timedelta(0):
                raise ValueError(f"{name} is negative; it must be zero or more.")

    def page_size(self, requested: int, *, total: int) -> int:
        """Return the number of rows on a full page."""
        if self.fixed_limit == "all":
            return max(1, total)
        size = requested if self.fixed_limit is None else self.fixed_limit
        return size if self.max_limit is None else min(size, self.max_limit)


class ServerOptions(TypedDict, total=False):
    """Keywords of `Emulator` that describe the server; see `ServerModel`."""

    order: Order
    stored_precision: Precision
    stored_rounding: Rounding
    bound_precision: Precision
    after_rounding: Rounding
    before_rounding: Rounding
    after_inclusive: bool
    before_inclusive: bool
    bound_comparison: BoundComparison
    visible_after: timedelta
    max_limit: int | None
    fixed_limit: int | Literal["all"] | None
    first_index: Literal[0, 1]
    has_more: HasMore
    empty_page_has_more: bool
    empty_items: EmptyItems
    max_window: timedelta | None
    max_window_status: Literal[422, 504]
    replica_lag: timedelta
    replica_choice: ReplicaChoice
    clock_skew: timedelta
    cache_ttl: timedelta
    recording_bytes: int
    link_lasts: timedelta


def parse_option(text: str) -> tuple[str, Any]:
    """Return name and value of an option in the form NAME=VALUE, or raise ValueError with the reason.

    Durations are numbers of seconds; booleans are `true` or `false`.
    """
    name, separator, value = text.partition("=")
    name = name.strip().replace("-", "_")
    hints = get_type_hints(ServerModel)
    if name not in hints or not separator:
        raise ValueError(f"{text!r} is not NAME=VALUE with a name among {', '.join(hints)}")
    try:
        parsed = _parse(hints[name], value.strip())
        ServerModel(**{name: parsed})
    except ValueError as error:
        raise ValueError(f"the value in {text!r} is not valid: {error}") from error
    return name, parsed


def _parse(hint: Any, value: str) -> Any:
    choices = {str(choice): choice for choice in _choices(hint)}
    if value in choices:
        return choices[value]
    types = {hint, *get_args(hint)}
    if timedelta in types:
        return timedelta(seconds=float(value))
    if int in types:
        return int(value)
    if bool in types and value in ("true", "false"):
        return value == "true"
    raise ValueError(f"use one of {', '.join(choices or ('true', 'false'))}")


def _choices(hint: Any) -> tuple[Any, ...]:
    """Return the values that a hint lists; none for a hint without a Literal."""
    literals = [part for part in (hint, *get_args(hint)) if getattr(part, "__origin__", None) is Literal]
    return tuple(choice for literal in literals for choice in get_args(literal))


def _is_size(value: object) -> bool:
    return value is None or (isinstance(value, int) and value > 0)
