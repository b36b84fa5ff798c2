"""Which columns does the table have, and where does each value come from?

The one declaration: the decoder, the Arrow schema and the documentation are made from it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import pyarrow as pa

from voiceos_provider.records.kinds import COUNT, FLAG, INSTANT, JSON, MONEY, NUMBER, TEXT, Kind


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    :param name: its name in every target
    :param kind: what fits into it
    :param description: one sentence for analysts
    :param path: where the API sends the value; empty if it is derived
    :param personal: whether it may identify a person or repeat what one said
    """

    name: str
    kind: Kind
    description: str
    path: tuple[str, ...] = ()
    nullable: bool = True
    personal: bool = False


def _sent(path: str, kind: Kind, description: str, *, name: str = "", **flags: bool) -> Column:
    steps = tuple(path.split("."))
    return Column(name or steps[-1], kind, description, steps, **flags)


def _cost(part: str, label: str, *quantities: tuple[str, Kind, str]) -> list[Column]:
    base = f"cost_breakdown.{part}"
    return [
        _sent(f"{base}.cost", MONEY, f"US dollars for the {label}.", name=f"{part}_cost"),
        _sent(f"{base}.provider", TEXT, f"Who was paid for the {label}.", name=f"{part}_cost_provider"),
        *(_sent(f"{base}.{key}", kind, text, name=f"{part}_cost_{key}") for key, kind, text in quantities),
    ]


def _configured(part: str, label: str, *, model: str) -> list[Column]:
    base = f"agent_config.{part}"
    return [
        _sent(f"{base}.provider", TEXT, f"The {label}'s configured provider.", name=f"{part}_provider"),
        _sent(f"{base}.model", TEXT, f"The {label}'s configured model.", name=model),
        Column(
            f"{part}_own_key",
            FLAG,
            f"Whether the {label} ran on the customer's own key; its cost is then not in the breakdown.",
        ),
    ]


CONVERSATIONS: tuple[Column, ...] = (
    _sent("id", TEXT, "The conversation's id, the only key.", nullable=False),
    _sent("uri", TEXT, "Opaque address of the conversation."),
    _sent("type", TEXT, "`inbound_phone_call`, `outbound_phone_call`, `web_call`, or a newer one."),
    _sent("account_id", TEXT, "The account or sub-account."),
    _sent("agent_id", TEXT, "The agent; null if the conversation used an inline configuration."),
    _sent("status", TEXT, "`queued`, `started`, `ended`, or a newer one, when it was read."),
    _sent("started_at", INSTANT, "When it started; null while queued."),
    _sent("ended_at", INSTANT, "When it ended; null until then."),
    Column(
        "duration_seconds", NUMBER, "From start to end; null if either is missing or the end comes first."
    ),
    _sent("ended_reason", TEXT, "`agent_ended`, `user_ended`, `unknown`, or a newer one."),
    _sent("phone_call.provider", TEXT, "The telephony provider; null over web.", name="phone_provider"),
    _sent("phone_call.from_number", TEXT, "The calling number.", personal=True),
    _sent("phone_call.to_number", TEXT, "The called number.", personal=True),
    _sent("cost_breakdown.total", MONEY, "US dollars in all; not promised to be the sum.", name="total_cost"),
    *_cost("agent", "agent", ("seconds", NUMBER, "Seconds billed for the agent.")),
    *_cost(
        "language_model",
        "language model",
        ("input_tokens", COUNT, "Tokens read by the language model."),
        ("output_tokens", COUNT, "Tokens written by the language model."),
    ),
    *_cost("transcriber", "transcriber", ("seconds", NUMBER, "Seconds transcribed.")),
    *_cost("voice", "voice", ("characters", COUNT, "Characters spoken.")),
    *_cost("telephony", "telephony", ("seconds", NUMBER, "Seconds on the phone.")),
    *_configured("language_model", "language model", model="language_model"),
    *_configured("transcriber", "transcriber", model="transcriber_model"),
    *_configured("voice", "voice", model="voice_model"),
    _sent(
        "agent_config.max_duration_seconds",
        NUMBER,
        "The configured limit; null is unlimited, or not sent: `agent_config` tells which.",
    ),
    Column("agent_config_hash", TEXT, "SHA-256 of `agent_config`; equal configurations have equal hashes."),
    Column("prompt_hash", TEXT, "SHA-256 of the prompt."),
    Column("message_count", COUNT, "How many messages there are."),
    Column("messages", JSON, "The messages, a JSON array of `{role, content}`.", personal=True),
    Column(
        "agent_config",
        JSON,
        "The configuration as JSON with sorted keys; webhook headers and credentials are masked.",
        personal=True,
    ),
    Column(
        "extra",
        JSON,
        "Whatever else the API sent, in its place: unknown keys, and values that their column cannot hold.",
        personal=True,
    ),
    Column("_interval_start", INSTANT, "Start of the exported interval of creation time.", nullable=False),
    Column("_interval_end", INSTANT, "End of that interval, exclusive.", nullable=False),
    Column("_exported_at", INSTANT, "When the export began; the same for all its rows.", nullable=False),
)


def schema_of(columns: tuple[Column, ...]) -> pa.Schema:
    """The Arrow schema; each field carries its description and its kind."""
    return pa.schema(
        pa.field(c.name, c.kind.arrow, c.nullable, {"description": c.description, "kind": c.kind.name})
        for c in columns
    )


def is_json(field: pa.Field) -> bool:
    """Whether a text field holds JSON."""
    return bool((field.metadata or {}).get(b"kind") == JSON.name.encode())


SCHEMA = schema_of(CONVERSATIONS)


def fingerprint(schema: pa.Schema) -> str:
    """A short hash of names, types and nullability: equal fingerprints, readable by the same query."""
    shape = "\n".join(f"{field.name} {field.type} {field.nullable}" for field in schema)
    return hashlib.sha256(shape.encode()).hexdigest()[:16]
