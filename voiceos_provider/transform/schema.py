"""Which tables and columns are there, and where does each value come from?

The one declaration: the decoder, the Arrow schemas and the reference page are made from it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import pyarrow as pa

from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.transform.column_types import COUNT, FLAG, INSTANT, JSON, MONEY, NUMBER, TEXT, Kind

Personal = Literal["phone_numbers", "messages", "prompts"]
"""What a column tells of people, by the name under which one may have it left out."""

COMPONENTS = ("agent", "language_model", "transcriber", "voice", "telephony")
"""What is paid for, in the order of the tables."""

WITH_KEYS = ("language_model", "transcriber", "voice")
"""The components that may run on a key of the customer's own."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    :param name: its name in every target
    :param kind: what fits into it
    :param description: one sentence for analysts
    :param path: where the API sends the value, `[]` for each element of an array; empty if it is derived
    :param personal: what it tells of people, if it does
    :param known: the documented values, if it is an enum; others may come
    """

    name: str
    kind: Kind
    description: str
    path: tuple[str, ...] = ()
    nullable: bool = True
    personal: Personal | None = None
    known: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Table:
    """One table.

    :param name: its name in every target
    :param description: what one row is
    :param key: the columns that identify a row
    :param columns: in their order
    """

    name: str
    description: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]

    @cached_property
    def schema(self) -> pa.Schema:
        """The Arrow schema; each field carries its description and its kind."""
        return pa.schema(
            pa.field(c.name, c.kind.arrow, c.nullable, {"description": c.description, "kind": c.kind.name})
            for c in self.columns
        )


def _sent(
    path: str,
    kind: Kind,
    description: str,
    *,
    name: str = "",
    nullable: bool = True,
    personal: Personal | None = None,
    known: str = "",
) -> Column:
    steps = tuple(path.split("."))
    return Column(name or steps[-1], kind, description, steps, nullable, personal, frozenset(known.split()))


def _cost(part: str, label: str, providers: str, *quantities: tuple[str, Kind, str]) -> list[Column]:
    base = f"cost_breakdown.{part}"
    return [
        _sent(f"{base}.cost", MONEY, f"US dollars for the {label}.", name=f"{part}_cost"),
        _sent(
            f"{base}.provider",
            TEXT,
            f"Who was paid for the {label}.",
            name=f"{part}_cost_provider",
            known=providers,
        ),
        *(_sent(f"{base}.{key}", kind, text, name=f"{part}_cost_{key}") for key, kind, text in quantities),
    ]


def _configured(part: str, label: str, model: str) -> list[Column]:
    base = f"agent_config.{part}"
    return [
        _sent(f"{base}.provider", TEXT, f"The {label}'s configured provider.", name=f"{part}_provider"),
        _sent(f"{base}.model", TEXT, f"The {label}'s configured model.", name=model),
        Column(
            f"{part}_own_key",
            FLAG,
            f"Whether the {label} ran on the customer's own key (`agent_config.{part}.credential_id` is not null); "
            "its cost is then not in the breakdown.",
        ),
    ]


_CONFIGURED = (
    *_configured("language_model", "language model", "language_model"),
    *_configured("transcriber", "transcriber", "transcriber_model"),
    *_configured("voice", "voice", "voice_model"),
    _sent(
        "agent_config.max_duration_seconds",
        NUMBER,
        "The configured limit; null is unlimited, or not sent: `agent_configs.agent_config` tells which.",
    ),
)

_CONSTANTS = (
    Column(
        "_interval_start",
        INSTANT,
        "Start of the exported interval of creation time that it belongs to.",
        nullable=False,
    ),
    Column("_interval_end", INSTANT, "End of that interval, exclusive.", nullable=False),
    Column(
        "_exported_at",
        INSTANT,
        "When the export that wrote the row began. A database keeps a row that still says the same as it is, except "
        "in `conversations`.",
        nullable=False,
    ),
)

_HASH = "SHA-256 of the configuration as `agent_configs.agent_config` has it, prompts included."

CONVERSATIONS = Table(
    "conversations",
    "One row per conversation.",
    ("id",),
    (
        _sent("id", TEXT, "The conversation's id, the only key.", nullable=False),
        _sent("uri", TEXT, "Opaque address of the conversation."),
        _sent(
            "type",
            TEXT,
            "`inbound_phone_call`, `outbound_phone_call`, `web_call`, or a newer one.",
            known="inbound_phone_call outbound_phone_call web_call",
        ),
        _sent("account_id", TEXT, "The account or sub-account."),
        _sent("agent_id", TEXT, "The agent; null if the conversation used an inline configuration."),
        _sent(
            "status",
            TEXT,
            "`queued`, `started`, `ended`, or a newer one, when it was read.",
            known="queued started ended",
        ),
        _sent("started_at", INSTANT, "When it started; null while queued."),
        _sent("ended_at", INSTANT, "When it ended; null until then."),
        Column(
            "duration_seconds", NUMBER, "From start to end; null if either is missing or the end comes first."
        ),
        _sent(
            "ended_reason",
            TEXT,
            "`agent_ended`, `user_ended`, `unknown`, or a newer one.",
            known="agent_ended user_ended unknown",
        ),
        _sent(
            "phone_call.provider",
            TEXT,
            "The telephony provider; null over web.",
            name="phone_provider",
            known="twilio",
        ),
        _sent("phone_call.from_number", TEXT, "The calling number.", personal="phone_numbers"),
        _sent("phone_call.to_number", TEXT, "The called number.", personal="phone_numbers"),
        Column("phone_key_id", TEXT, "Which key the numbers are hashed with; null if they are not hashed."),
        _sent(
            "cost_breakdown.total", MONEY, "US dollars in all; not promised to be the sum.", name="total_cost"
        ),
        *_cost("agent", "agent", "voiceos", ("seconds", NUMBER, "Seconds billed for the agent.")),
        *_cost(
            "language_model",
            "language model",
            "openai google",
            ("input_tokens", COUNT, "Tokens read by the language model."),
            ("output_tokens", COUNT, "Tokens written by the language model."),
        ),
        *_cost("transcriber", "transcriber", "deepgram azure", ("seconds", NUMBER, "Seconds transcribed.")),
        *_cost(
            "voice",
            "voice",
            "azure elevenlabs rimeai deepgram playht",
            ("characters", COUNT, "Characters spoken."),
        ),
        *_cost("telephony", "telephony", "twilio", ("seconds", NUMBER, "Seconds on the phone.")),
        *_CONFIGURED,
        Column("agent_config_hash", TEXT, f"Key into `agent_configs`. {_HASH}"),
        Column("prompt_hash", TEXT, "SHA-256 of the prompt."),
        Column("message_count", COUNT, "How many messages there are; null if no list of them was sent."),
        Column(
            "extra",
            JSON,
            "Whatever else the API sent, in its place: unknown keys, and values that their column cannot hold.",
        ),
        *_CONSTANTS,
    ),
)

CONVERSATION_COSTS = Table(
    "conversation_costs",
    "One row per conversation and component that was billed, or that ran on a key of the customer's own.",
    ("conversation_id", "component"),
    (
        Column("conversation_id", TEXT, "The conversation.", nullable=False),
        Column("component", TEXT, f"{', '.join(f'`{name}`' for name in COMPONENTS)}.", nullable=False),
        Column("provider", TEXT, "Who was paid; null if nobody was."),
        Column("cost", MONEY, "US dollars; null if not known, or paid with the customer's own key."),
        Column("quantity", NUMBER, "What was counted; for the language model, tokens read and written."),
        Column("unit", TEXT, "`seconds`, `characters` or `tokens`.", nullable=False),
        Column("own_key", FLAG, "Whether it ran on the customer's own key, so that `cost` is not all of it."),
        *_CONSTANTS,
    ),
)

CONVERSATION_MESSAGES = Table(
    "conversation_messages",
    "One row per message. A message has no id and no time.",
    ("conversation_id", "ordinal"),
    (
        Column("conversation_id", TEXT, "The conversation.", nullable=False),
        Column("ordinal", COUNT, "Its place in the conversation, counted from 1.", nullable=False),
        _sent("messages.[].role", TEXT, "`agent`, `user`, or a newer one.", known="agent user"),
        _sent("messages.[].content", TEXT, "What was said.", personal="messages"),
        Column("extra", JSON, "Whatever else the message holds.", personal="messages"),
        *_CONSTANTS,
    ),
)

AGENT_CONFIGS = Table(
    "agent_configs",
    "One row per distinct configuration that an exported conversation was read with.",
    ("agent_config_hash",),
    (
        Column("agent_config_hash", TEXT, _HASH, nullable=False),
        Column("prompt_hash", TEXT, "SHA-256 of the prompt."),
        _sent("agent_config.prompt", TEXT, "The prompt.", personal="prompts"),
        _sent(
            "agent_config.initial_message",
            TEXT,
            "What the agent says first; null if it waits for the user.",
            personal="prompts",
        ),
        *_CONFIGURED,
        Column(
            "agent_config",
            JSON,
            "The whole `agent_config` as JSON with sorted keys: also its metadata, tools, webhooks, hooks, languages, "
            "keywords, temperatures and limits. Webhook headers and credentials are masked.",
        ),
        *_CONSTANTS,
    ),
)

TABLES = (CONVERSATIONS, CONVERSATION_COSTS, CONVERSATION_MESSAGES, AGENT_CONFIGS)


def choose_tables(names: Sequence[str] | None) -> tuple[Table, ...]:
    """The tables with these names, in their usual order; None for all.

    :raises VoiceOSValueError: if there is no such table
    """
    if names is None:
        return TABLES
    if isinstance(names, str):
        names = [names]
    known = {table.name for table in TABLES}
    if unknown := [name for name in names if name not in known]:
        raise VoiceOSValueError(f"tables: {unknown[0]!r} is not one of {', '.join(t.name for t in TABLES)}.")
    if not names:
        raise VoiceOSValueError("tables is empty; leave it out for all of them.")
    return tuple(table for table in TABLES if table.name in names)


def is_json(field: pa.Field) -> bool:
    """Whether a text field holds JSON."""
    return bool((field.metadata or {}).get(b"kind") == JSON.name.encode())


def fingerprint(schema: pa.Schema) -> str:
    """A short hash of names, types and nullability: equal fingerprints, readable by the same query."""
    shape = "\n".join(f"{field.name} {field.type} {field.nullable}" for field in schema)
    return hashlib.sha256(shape.encode()).hexdigest()[:16]
