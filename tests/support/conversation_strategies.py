"""Hypothesis strategies for conversations: documented ones, and arbitrary JSON."""

import json
from datetime import datetime
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from voiceos_provider.transform import TABLES

COLUMNS = {
    column.path: column
    for table in TABLES
    for column in table.columns
    if column.path and column.path[0] not in ("agent_config", "messages")
}

# The first letter of every unknown key is one with which no credential begins.
UNKNOWN = (
    st.text(max_size=6).map(lambda rest: f"~{rest}").filter(lambda key: not key.lower().endswith("headers"))
)
KNOWN = sorted(
    {step for path in COLUMNS for step in path} | {"messages", "agent_config", "prompt", "content", "role"}
)
KEYS = (
    st.sampled_from(KNOWN)
    | UNKNOWN
    | st.sampled_from(["_exported_at", "extra", "total_cost", "duration_seconds"])
)
NUMBERS = st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?", fullmatch=True).map(
    Decimal
)
TEXTS = st.text(max_size=10).filter(lambda text: "://" not in text) | st.sampled_from(
    [
        "",
        "2024-06-03T16:58:02.104233+00:00",
        "2024-06-03T16:58:02",
        "1717433882",
        "0.5",
        "1_000",
        "NaN",
        "412.0",
    ]
)
LEAVES = st.none() | st.booleans() | st.integers() | NUMBERS | TEXTS
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@st.composite
def arbitrary_conversations(draw: st.DrawFn) -> dict[str, Any]:
    """Draw conversations with arbitrary JSON at documented and undocumented paths."""
    conversation: dict[str, Any] = draw(st.dictionaries(KEYS, JSON, max_size=5))
    for path in draw(st.lists(st.sampled_from(sorted(COLUMNS)), max_size=8)):
        holder: Any = conversation
        for step in path[:-1]:
            if not isinstance(holder.get(step), dict):
                holder[step] = {}
            holder = holder[step]
        holder[path[-1]] = draw(JSON)
    return conversation | {"id": draw(st.text(min_size=1, max_size=5))}


def nullable(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return a strategy for the value or null."""
    return st.none() | values


def sparse_object(**content: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy for an object whose keys may be missing and whose values may be null."""
    return st.fixed_dictionaries({}, optional={key: nullable(value) for key, value in content.items()})


MOMENTS = st.datetimes() | st.datetimes(datetime(1899, 12, 30), datetime(2262, 1, 3))  # noqa: DTZ001
INSTANTS = MOMENTS.flatmap(
    lambda moment: st.sampled_from(
        [
            f"{moment.isoformat()}{zone}"
            for zone in ("Z", "", "+00:00", "-11:30", "+0200", "+05", "+14:00", "z")
        ]
        + [moment.isoformat(" ", "seconds") + "Z", f"{moment:%Y-%m-%dT%H:%M:%S}.1234567Z"]
    )
)
PLAIN_NUMBERS = st.decimals(0, 10**6, allow_nan=False, places=6) | NUMBERS | st.integers(0, 10**19)
PLAIN_COUNTS = st.integers(-1, 2**64) | st.sampled_from([2**53 + 1, 2**63 - 1, 2**63, Decimal("7.0")])
WORDS = st.text(max_size=8) | st.sampled_from(
    ["https://u:p@x.example/?a=b", "see s://?x", "\U0001f600", "\x00"]
)
_PIECES = [*"/:.1u@?#&[é\u017f", "https", "WSS", "://", "://", "//", "token=s", "a=b"]
_SPACES = [*" \n\t\v\f\r\x1c\x1f\x85\xa0\u2003\u2028\u3000\0"]
URLS = st.lists(st.sampled_from(_PIECES) | st.sampled_from(_SPACES), max_size=12).map("".join)
"""Texts from parts of URLs, and from characters that only some libraries treat as space."""

TIMED = sparse_object(provider=WORDS, cost=PLAIN_NUMBERS, seconds=PLAIN_NUMBERS)
PART = sparse_object(
    provider=WORDS, model=WORDS, credential_id=WORDS, temperature=PLAIN_NUMBERS, keywords=st.lists(WORDS)
)

documented_conversations = st.fixed_dictionaries(
    {"id": st.text(min_size=1, max_size=3)},
    optional={
        **{key: nullable(WORDS) for key in ("uri", "account_id", "agent_id")},
        "type": nullable(st.sampled_from(["inbound_phone_call", "web_call", "fax"])),
        "status": nullable(st.sampled_from(["queued", "started", "ended", "lost"])),
        "ended_reason": nullable(st.sampled_from(["agent_ended", "unknown", "human_hangup"])),
        "started_at": nullable(INSTANTS),
        "ended_at": nullable(INSTANTS),
        "phone_call": nullable(sparse_object(provider=WORDS, from_number=WORDS, to_number=WORDS)),
        "messages": nullable(st.lists(sparse_object(role=WORDS, content=WORDS), max_size=3)),
        "agent_config": nullable(
            sparse_object(
                prompt=WORDS,
                initial_message=WORDS,
                max_duration_seconds=PLAIN_NUMBERS,
                metadata=st.dictionaries(st.sampled_from("abc"), WORDS, max_size=2),
                voice=PART,
                language_model=PART,
                transcriber=PART,
                webhooks=st.lists(
                    sparse_object(url=WORDS, headers=st.dictionaries(st.sampled_from("xyz"), WORDS)),
                    max_size=1,
                ),
            )
        ),
        "cost_breakdown": nullable(
            sparse_object(
                total=PLAIN_NUMBERS,
                agent=TIMED,
                transcriber=TIMED,
                telephony=TIMED,
                language_model=sparse_object(
                    provider=WORDS, cost=PLAIN_NUMBERS, input_tokens=PLAIN_COUNTS, output_tokens=PLAIN_COUNTS
                ),
                voice=sparse_object(provider=WORDS, cost=PLAIN_NUMBERS, characters=PLAIN_COUNTS),
            )
        ),
    },
)
"""Conversations that the contract allows; numbers may be too long for a column, and instants have any format."""

_PARTS = sorted({path[1] for path in COLUMNS if path[0] == "cost_breakdown" and path[2:]})
_MISFITS = {
    "instant": [
        "2026-11-01",
        "2026-02-30T00:00:00Z",
        "2026-11-01T24:00:00Z",
        "0001-01-01T00:00:00+05:00",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59-05:00",
        "0000-00-00T00:00:00Z",
        "yesterday",
    ],
    "money": ["x", True, [1], Decimal("1e-30"), 10**14, 10**30, Decimal("0." + "1" * 30), "0.5"],
    "number": ["x", True, {"a": 1}, Decimal("12.3456789012345678901"), Decimal("1e400"), 10**18 + 1, "61"],
    "count": [2**63, 10**19],
    "text": ["https://u:p@x.example/?a=b", "wss://x.example/?token=s", "https://[u@x"],
}


@st.composite
def invalid_value_conversations(draw: st.DrawFn) -> dict[str, Any]:
    """Draw documented conversations for the fast path, with values that some columns cannot hold."""
    conversation: dict[str, Any] = {
        "id": draw(st.text(min_size=1, max_size=3)),
        "started_at": "2026-11-01T00:00:00Z",
        "phone_call": {"to_number": None},
        "cost_breakdown": {"total": 1} | {part: {"cost": 1, "provider": "x"} for part in _PARTS},
    }
    paths = [path for path in sorted(COLUMNS) if path != ("id",)]
    for path in draw(st.lists(st.sampled_from(paths), min_size=1, max_size=2)):
        holder = conversation
        for step in path[:-1]:
            holder = holder[step]
        holder[path[-1]] = draw(st.sampled_from(_MISFITS[COLUMNS[path].kind.name]))
    return conversation


def json_text(value: Any) -> str:
    """Return JSON text in which every number keeps its digits."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{json_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(json_text, value)) + "]"
    return str(value) if isinstance(value, Decimal) else json.dumps(value)
