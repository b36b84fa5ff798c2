"""Models of API responses, as the vendor documents them, tolerant of changes.

Enums are plain strings, because new values appear without notice; every key except `id` may be missing; undocumented
fields are kept as attributes. Date-times are in UTC, money is `Decimal` from the JSON text.

`ConversationStruct` is made from the same models for the fast path: a conversation that is exactly as documented is
decoded at once, without a Python object per JSON value. Any other conversation stays JSON text for the fallback
decoder; both lead to the same rows.
"""

from __future__ import annotations

import typing
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

import msgspec
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from voiceos_provider.client import values
from voiceos_provider.client.values import JsonValue


def _or_none(read: Callable[[JsonValue], Any]) -> BeforeValidator:
    return BeforeValidator(lambda value: None if value is None else read(value))


DateTime = Annotated[datetime | None, _or_none(values.instant)]
Money = Annotated[Decimal | None, _or_none(values.exact_decimal)]
Number = Annotated[float | None, _or_none(values.number)]
Count = Annotated[int | None, _or_none(values.count)]


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow", protected_namespaces=())


class Message(_Open):
    """One turn. It has no id and no time: its position in the list is its key."""

    role: str | None = None
    """`agent` or `user`."""
    content: str | None = None


class PhoneCall(_Open):
    """The two ends of a phone call."""

    provider: str | None = None
    to_number: str | None = None
    from_number: str | None = None


class TimedCost(_Open):
    """A cost counted in seconds: agent, transcriber, telephony."""

    provider: str | None = None
    cost: Money = None
    seconds: Number = None


class LanguageModelCost(_Open):
    """A cost counted in tokens."""

    provider: str | None = None
    cost: Money = None
    input_tokens: Count = None
    output_tokens: Count = None


class VoiceCost(_Open):
    """A cost counted in characters."""

    provider: str | None = None
    cost: Money = None
    characters: Count = None


class CostBreakdown(_Open):
    """Costs in US dollars. The API does not guarantee that the total equals the sum of its parts."""

    total: Money = None
    agent: TimedCost | None = None
    language_model: LanguageModelCost | None = None
    transcriber: TimedCost | None = None
    voice: VoiceCost | None = None
    telephony: TimedCost | None = None


class Voice(_Open):
    """The voice as configured; its other keys depend on the provider."""

    provider: str | None = None
    credential_id: str | None = None
    """Set if the customer's own key is used; its cost is then not in the breakdown."""
    model: str | None = None


class LanguageModel(_Open):
    """The language model as configured."""

    provider: str | None = None
    credential_id: str | None = None
    model: str | None = None
    temperature: Number = None
    max_tokens: Count = None
    tools: list[dict[str, Any]] | None = None


class Transcriber(_Open):
    """The transcriber as configured; its other keys depend on the provider."""

    provider: str | None = None
    credential_id: str | None = None
    model: str | None = None
    language: str | None = None
    languages: list[str] | None = None
    keywords: list[str] | None = None


class Webhook(_Open):
    """A URL that receives events."""

    url: str | None = None
    method: str | None = None
    events: list[str] | None = None
    filter: str | None = None
    headers: dict[str, str] | None = Field(default=None, repr=False)
    """Customers' secrets."""


class Hook(_Open):
    """Instructions that events give to the conversation itself."""

    events: list[str] | None = None
    filter: str | None = None
    instructions: list[dict[str, Any]] | None = None


class AgentConfig(_Open):
    """Agent configuration with which the conversation ran."""

    initial_message: str | None = None
    """None: the agent waits for the user."""
    prompt: str | None = None
    max_duration_seconds: Number = None
    """None: unlimited, if the key was sent."""
    metadata: dict[str, Any] | None = None
    voice: Voice | None = None
    language_model: LanguageModel | None = None
    transcriber: Transcriber | None = None
    webhooks: list[Webhook] | None = None
    hooks: list[Hook] | None = None


class Conversation(_Open):
    """A conversation. Only `id` is always present."""

    id: str = Field(min_length=1)
    uri: str | None = None
    type: str | None = None
    """`inbound_phone_call`, `outbound_phone_call` or `web_call`."""
    account_id: str | None = None
    status: str | None = None
    """`queued`, `started` or `ended`."""
    started_at: DateTime = None
    ended_at: DateTime = None
    ended_reason: str | None = None
    """`agent_ended`, `user_ended` or `unknown`."""
    agent_id: str | None = None
    agent_config: AgentConfig | None = Field(default=None, repr=False)
    messages: list[Message] | None = Field(default=None, repr=False)
    phone_call: PhoneCall | None = Field(default=None, repr=False)
    cost_breakdown: CostBreakdown | None = None
    invalid_values: dict[str, Any] = Field(default_factory=dict, repr=False, exclude=True)
    """Values of another type than documented, by path; the field itself is None."""

    @model_validator(mode="wrap")
    @classmethod
    def _set_invalid_values_aside(cls, data: Any, handler: Callable[[Any], Conversation]) -> Conversation:
        odd: dict[str, Any] = {}
        while True:
            try:
                conversation = handler(data)
            except ValidationError as error:
                paths = {_existing(data, item["loc"]) for item in error.errors(include_url=False)}
                if () in paths or ("id",) in paths:
                    raise
                for path in paths:
                    if not any(path[:n] in paths for n in range(1, len(path))):
                        odd[".".join(map(str, path))], data = _blanked(data, path)
            else:
                conversation.invalid_values = odd
                return conversation


def parse_conversation(raw: bytes | msgspec.Raw) -> Conversation:
    """Return the model of a conversation.

    :raises ValueError: if it is not JSON, or not an object with an id
    """
    return Conversation.model_validate(values.loads(raw))


def _existing(data: Any, loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Return the longest prefix of a path that has a value."""
    path: tuple[int | str, ...] = ()
    for step in loc:
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            break
        if data is None:
            break
        path = (*path, step)
    return path


def _blanked(data: Any, path: tuple[int | str, ...]) -> tuple[Any, Any]:
    """Return the value at a path, and a copy of the data in which it is None."""
    step, *rest = path
    copy = data.copy()
    odd, copy[step] = _blanked(data[step], tuple(rest)) if rest else (data[step], None)
    return odd, copy


NULL: typing.Final = msgspec.Raw(b"null")
"""Value of a missing number or configuration."""

# Numbers and date-times stay text: a whole column of them is read at once later.
_LEAVES: dict[Any, Any] = {
    str: str | None,
    int: int | None,
    float: msgspec.Raw,
    Decimal: msgspec.Raw,
    datetime: str | None,
    AgentConfig: msgspec.Raw,
}


# Only the fallback decoder can distinguish an empty object from a missing one, so these must be present or null.
_ALWAYS_PRESENT = ("to_number", "total", "cost")


def _struct(model: type[BaseModel]) -> Any:
    """Return a closed struct with the fields of an open model."""
    fields: list[Any] = []
    for name, field in model.model_fields.items():
        if field.exclude:
            continue
        kind = _kind(field.annotation)
        if field.is_required():
            fields.append((name, Annotated[kind, msgspec.Meta(min_length=1)]))
        elif name in _ALWAYS_PRESENT:
            fields.append((name, kind))
        else:
            fields.append((name, kind, NULL if kind is msgspec.Raw else None))
    # They hold no reference cycles, so the garbage collector can skip them.
    return msgspec.defstruct(model.__name__, fields, forbid_unknown_fields=True, kw_only=True, gc=False)


def _kind(annotation: Any) -> Any:
    if annotation is str:
        return str
    (inner,) = (member for member in typing.get_args(annotation) if member is not type(None))
    if inner in _LEAVES:
        return _LEAVES[inner]
    if typing.get_origin(inner) is list:
        return list.__class_getitem__(_struct(*typing.get_args(inner))) | None
    return _struct(inner) | None


ConversationStruct: Any = _struct(Conversation)
"""Closed struct of a conversation, with the attributes of `Conversation`."""
