"""Schema: tables, columns and what a column can hold.

The decoders, the Arrow schemas and the reference page are made from this declaration. Names can be read without loading
Arrow, which only the properties `Kind.arrow` and `Table.schema` do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from voiceos_provider.exceptions import VoiceOSValueError

if TYPE_CHECKING:
    import pyarrow as pa

Path = tuple[str, ...]
"""Keys from a conversation to a value in it; `[]` for each element of an array."""

PiiClass = Literal["phone_numbers", "messages", "prompts"]
"""A class of personal data, by the name under which it can be redacted."""

COMPONENTS = ("agent", "language_model", "transcriber", "voice", "telephony")
"""The components that are billed, in the order of the tables."""

COMPONENTS_WITH_KEYS = ("language_model", "transcriber", "voice")
"""The components that can run on the customer's own key."""

MONEY_DIGITS, MONEY_PLACES = 38, 24
"""24 decimal places hold a double's noise (0.056900000000000006), 14 digits remain before the point."""

FIRST_INSTANT = datetime(1900, 1, 1, tzinfo=UTC)
LAST_INSTANT = datetime(2261, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
"""The whole years that every reader holds: Spark 3 and ClickHouse begin with 1900, and nanoseconds since 1970 in 64
bits end in 2262. An instant outside of them is a sentinel, such as Go's zero time or 9999-12-31."""


@dataclass(frozen=True)
class Kind:
    """A kind of column. It holds a value exactly or not at all; an instant to the microsecond, in UTC."""

    name: Literal["text", "instant", "money", "number", "count", "flag", "json"]

    @cached_property
    def arrow(self) -> pa.DataType:
        """The Arrow type."""
        import pyarrow as pa

        types = {
            "instant": pa.timestamp("us", tz="UTC"),
            "money": pa.decimal128(MONEY_DIGITS, MONEY_PLACES),
            "number": pa.float64(),
            "count": pa.int64(),
            "flag": pa.bool_(),
        }
        return types.get(self.name, pa.string())


TEXT, INSTANT, MONEY, NUMBER = Kind("text"), Kind("instant"), Kind("money"), Kind("number")
COUNT, FLAG, JSON = Kind("count"), Kind("flag"), Kind("json")


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    :param name: its name in every destination
    :param description: one sentence for analysts
    :param path: where the API sends the value, `[]` for each element of an array; empty if it is derived
    :param pii: the class of personal data it holds, if any
    :param documented_values: the documented values of an enum; others may come
    """

    name: str
    kind: Kind
    description: str
    path: Path = ()
    nullable: bool = True
    pii: PiiClass | None = None
    documented_values: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Table:
    """One table.

    :param name: its name in every destination
    :param description: what one row is
    :param key: the columns that identify a row
    """

    name: str
    description: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]

    def column(self, name: str) -> Column:
        """Return one column."""
        (column,) = (column for column in self.columns if column.name == name)
        return column

    @cached_property
    def schema(self) -> pa.Schema:
        """The Arrow schema; the metadata of each field has its description and its kind."""
        import pyarrow as pa

        return pa.schema(
            pa.field(c.name, c.kind.arrow, c.nullable, {"description": c.description, "kind": c.kind.name})
            for c in self.columns
        )


def _sent(
    path: str,
    kind: Kind,
    description: str,
    documented: str = "",
    *,
    name: str = "",
    nullable: bool = True,
    pii: PiiClass | None = None,
) -> Column:
    steps = tuple(path.split("."))
    return Column(name or steps[-1], kind, description, steps, nullable, pii, frozenset(documented.split()))


def _enum(path: str, documented: str, when: str = "") -> Column:
    listed = ", ".join(f"`{value}`" for value in documented.split())
    return _sent(path, TEXT, f"{listed}, or a newer one{when}.", documented)


def _cost(component: str, providers: str, *quantities: tuple[str, Kind, str]) -> list[Column]:
    base, name, label = f"cost_breakdown.{component}", f"{component}_cost", component.replace("_", " ")
    paid = f"The provider that was paid for the {label}."
    return [
        _sent(f"{base}.cost", MONEY, f"US dollars for the {label}.", name=name),
        _sent(f"{base}.provider", TEXT, paid, providers, name=f"{name}_provider"),
        *(_sent(f"{base}.{key}", kind, text, name=f"{name}_{key}") for key, kind, text in quantities),
    ]


def _configured(component: str, model: str, providers: str) -> list[Column]:
    base, label = f"agent_config.{component}", component.replace("_", " ")
    provider = f"The {label}'s configured provider."
    own_key = (
        f"Whether the {label} ran on the customer's own key (`{base}.credential_id` is not null); its cost is not in "
        "the breakdown."
    )
    return [
        _sent(f"{base}.provider", TEXT, provider, providers, name=f"{component}_provider"),
        _sent(f"{base}.model", TEXT, f"The {label}'s configured model.", name=model),
        Column(f"{component}_own_key", FLAG, own_key),
    ]


_CONFIGURED = (
    *_configured("language_model", "language_model", "openai google"),
    *_configured("transcriber", "transcriber_model", "deepgram azure"),
    *_configured("voice", "voice_model", "azure deepgram elevenlabs playht rime"),
    _sent(
        "agent_config.max_duration_seconds",
        NUMBER,
        "The configured limit; null if unlimited or not sent, which `agent_configs.agent_config` distinguishes.",
    ),
)

_CONSTANTS = (
    Column("_interval_start", INSTANT, "Start of the exported interval of creation times.", nullable=False),
    Column("_interval_end", INSTANT, "End of that interval, exclusive.", nullable=False),
    Column(
        "_exported_at",
        INSTANT,
        "When the export that wrote the row began. A database does not rewrite unchanged rows, except in "
        "`conversations`.",
        nullable=False,
    ),
)

_CONVERSATION_ID = Column("conversation_id", TEXT, "The conversation.", nullable=False)
_PROMPT_HASH = Column("prompt_hash", TEXT, "SHA-256 of the prompt.")
_HASH = "SHA-256 of the configuration as in `agent_configs.agent_config`, prompts included."

CONVERSATIONS = Table(
    "conversations",
    "One row per conversation.",
    ("id",),
    (
        _sent("id", TEXT, "The conversation's id, the key.", nullable=False),
        _sent("uri", TEXT, "Opaque address of the conversation."),
        _enum("type", "inbound_phone_call outbound_phone_call web_call"),
        _sent("account_id", TEXT, "The account or sub-account."),
        _sent("agent_id", TEXT, "The agent; null if the conversation used an inline configuration."),
        _enum("status", "queued started ended", ", when it was read"),
        _sent("started_at", INSTANT, "When it started; null while queued."),
        _sent("ended_at", INSTANT, "When it ended; null until then."),
        Column(
            "duration_seconds", NUMBER, "From start to end; null if either is missing or the end comes first."
        ),
        _enum("ended_reason", "agent_ended user_ended unknown"),
        _sent(
            "phone_call.provider",
            TEXT,
            "The telephony provider; null over web.",
            "twilio",
            name="phone_provider",
        ),
        _sent("phone_call.from_number", TEXT, "The calling number.", pii="phone_numbers"),
        _sent("phone_call.to_number", TEXT, "The called number.", pii="phone_numbers"),
        Column("phone_key_id", TEXT, "Identifies the key of hashed numbers; null if they are not hashed."),
        _sent(
            "cost_breakdown.total",
            MONEY,
            "Total in US dollars; may differ from the sum of the components.",
            name="total_cost",
        ),
        *_cost("agent", "voiceos", ("seconds", NUMBER, "Seconds billed for the agent.")),
        *_cost(
            "language_model",
            "openai google",
            ("input_tokens", COUNT, "Input tokens of the language model."),
            ("output_tokens", COUNT, "Output tokens of the language model."),
        ),
        *_cost("transcriber", "deepgram azure", ("seconds", NUMBER, "Seconds transcribed.")),
        *_cost(
            "voice", "azure elevenlabs rimeai deepgram playht", ("characters", COUNT, "Characters spoken.")
        ),
        *_cost("telephony", "twilio", ("seconds", NUMBER, "Seconds on the phone.")),
        *_CONFIGURED,
        Column("agent_config_hash", TEXT, f"Key into `agent_configs`. {_HASH}"),
        _PROMPT_HASH,
        Column("message_count", COUNT, "Number of messages; null if no list of messages was sent."),
        Column(
            "extra",
            JSON,
            "Everything else that was sent, under its path: undocumented fields, and values that no column can hold.",
        ),
        *_CONSTANTS,
    ),
)

CONVERSATION_COSTS = Table(
    "conversation_costs",
    "One row per conversation and component that was billed, or that ran on a key of the customer's own.",
    ("conversation_id", "component"),
    (
        _CONVERSATION_ID,
        Column("component", TEXT, f"{', '.join(f'`{name}`' for name in COMPONENTS)}.", nullable=False),
        Column("provider", TEXT, "The provider that was paid; null if none was."),
        Column("cost", MONEY, "US dollars; null if not known, or paid with the customer's own key."),
        Column("quantity", NUMBER, "The billed quantity; for the language model, input and output tokens."),
        Column("unit", TEXT, "`seconds`, `characters` or `tokens`.", nullable=False),
        Column("own_key", FLAG, "Whether it ran on the customer's own key, so that `cost` is incomplete."),
        *_CONSTANTS,
    ),
)

CONVERSATION_MESSAGES = Table(
    "conversation_messages",
    "One row per message. A message has no id and no time.",
    ("conversation_id", "ordinal"),
    (
        _CONVERSATION_ID,
        Column("ordinal", COUNT, "Its position in the conversation, counted from 1.", nullable=False),
        _enum("messages.[].role", "agent user"),
        _sent("messages.[].content", TEXT, "What was said.", pii="messages"),
        Column("extra", JSON, "All other fields of the message.", pii="messages"),
        *_CONSTANTS,
    ),
)

AGENT_CONFIGS = Table(
    "agent_configs",
    "One row per distinct configuration of the exported conversations.",
    ("agent_config_hash",),
    (
        Column("agent_config_hash", TEXT, _HASH, nullable=False),
        _PROMPT_HASH,
        _sent("agent_config.prompt", TEXT, "The prompt.", pii="prompts"),
        _sent(
            "agent_config.initial_message",
            TEXT,
            "The agent's first message; null if it waits for the user.",
            pii="prompts",
        ),
        *_CONFIGURED,
        Column(
            "agent_config",
            JSON,
            "The whole `agent_config` as JSON with sorted keys and canonical numbers, including metadata, tools, "
            "webhooks, hooks, languages, keywords, temperatures and limits. Credentials are masked.",
        ),
        *_CONSTANTS,
    ),
)

TABLES = (CONVERSATIONS, CONVERSATION_COSTS, CONVERSATION_MESSAGES, AGENT_CONFIGS)

SOURCE_COLUMNS = tuple(c for c in CONVERSATIONS.columns if c.path and c.path[0] != "agent_config")
"""The columns of `conversations` whose values are in the conversation itself."""

SOURCE_OBJECTS = tuple(sorted({c.path[:n] for c in SOURCE_COLUMNS for n in range(1, len(c.path))}, key=len))
"""Paths of the objects that hold these values, outer objects first."""

CONFIGURATION_COLUMNS = tuple(
    column
    for column in CONVERSATIONS.columns
    if column.name in {other.name for other in AGENT_CONFIGS.columns} and column not in _CONSTANTS
)
"""The columns of `conversations` whose values are in its configuration."""


def choose_tables(names: Sequence[str] | None) -> tuple[Table, ...]:
    """Return the tables with these names in their usual order; all tables for None.

    :raises VoiceOSValueError: if a table does not exist
    """
    if names is None:
        return TABLES
    if isinstance(names, str):
        names = [names]
    known = {table.name for table in TABLES}
    if unknown := [name for name in names if name not in known]:
        raise VoiceOSValueError(f"tables: {unknown[0]!r} is not one of {', '.join(t.name for t in TABLES)}.")
    if not names:
        raise VoiceOSValueError("tables is empty. Leave it out to export all tables.")
    return tuple(table for table in TABLES if table.name in names)


def is_json(field: pa.Field) -> bool:
    """Return whether a text field holds JSON."""
    return bool((field.metadata or {}).get(b"kind") == JSON.name.encode())


def fingerprint(schema: pa.Schema) -> str:
    """Return a short hash of names, types and nullability; equal fingerprints can be read by one query."""
    shape = "\n".join(f"{field.name} {field.type} {field.nullable}" for field in schema)
    return hashlib.sha256(shape.encode()).hexdigest()[:16]
