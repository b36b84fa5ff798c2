"""What is kept of people?"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import Any, Literal

from voiceos_provider.client.models import AgentConfig, Conversation
from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.transform.secrets import MASK
from voiceos_provider.transform.undocumented_fields import with_unknown

Keep = Literal["keep", "drop"]
KeepOrHash = Literal["keep", "drop", "hash"]

_CHOICES = {
    "phone_numbers": ("keep", "drop", "hash"),
    "messages": ("keep", "drop"),
    "prompts": ("keep", "drop"),
}
_NUMBER = re.compile(
    r"\+\d[\d\s()./-]{5,}\d|(?<![^\W_])\d[\d\s()./-]{5,}\d(?![\s()./-]*\d)(?=x|ext|\W|_|$)", re.IGNORECASE
)
_SMALLEST_NUMBER = 1_000_000  # as long as the shortest text that counts as one
_NO_NUMBER = re.compile(r"@|[^\W\d]{4}")  # an address, or a word; not tel: or ext
_SHORTEST_KEY = 16


@dataclass(frozen=True, slots=True)
class Redaction:
    """What becomes of the fields that tell of people, and of what may tell the same under keys that nobody knows yet.

    :param phone_numbers: `keep`, `drop`, or `hash`: HMAC-SHA256 of the number in E.164 form, so that repeat callers
        can be counted by who cannot read their numbers. Unless they are kept, what may be one is masked under unknown
        keys
    :param messages: `keep` or `drop` what was said; how many messages there were and whose remains. Dropped, texts
        under unknown keys of a conversation are masked
    :param prompts: `keep` or `drop` prompts and initial messages; their hashes remain. Dropped, texts under unknown
        keys of a conversation and of its configuration are masked
    :param hash_key: the key of the hashes
    """

    phone_numbers: KeepOrHash = "keep"
    messages: Keep = "keep"
    prompts: Keep = "keep"
    hash_key: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if self.phone_numbers == "hash" and len(self.hash_key) < _SHORTEST_KEY:
            raise VoiceOSValueError(
                "redaction: hashing phone numbers needs a secret key of at least 16 characters; put it into the extra "
                "phone_hash_key of the VoiceOS connection."
            )

    @classmethod
    def choose(cls, choices: Mapping[str, str] | None, hash_key: str | None) -> Redaction:
        """Read what a user has written.

        :raises VoiceOSValueError: if a class of fields or a choice is unknown, or the key is missing
        """
        for name, choice in (choices or {}).items():
            if name not in _CHOICES:
                raise VoiceOSValueError(f"redaction knows no {name!r}; it knows {', '.join(_CHOICES)}.")
            if choice not in _CHOICES[name]:
                raise VoiceOSValueError(
                    f"redaction: {name} {choice!r} is not one of {', '.join(_CHOICES[name])}."
                )
        chosen: Any = dict(choices or {})
        return cls(**chosen, hash_key=hash_key or "")

    def drops(self, personal: str | None) -> bool:
        """Whether a class of fields is left out."""
        return personal is not None and getattr(self, personal) == "drop"

    @property
    def key_id(self) -> str | None:
        """A name for the key that does not tell it, so that one sees when it changes."""
        if self.phone_numbers != "hash":
            return None
        return hashlib.sha256(b"phone_hash_key:" + self.hash_key.encode()).hexdigest()[:12]

    def phone_number(self, number: str | None) -> str | None:
        """What is kept of a number."""
        if number is None or self.phone_numbers == "keep":
            return number
        if self.phone_numbers == "drop":
            return None
        return hmac.new(self.hash_key.encode(), e164(number).encode(), hashlib.sha256).hexdigest()

    def leftover(self, rest: dict[str, Any]) -> dict[str, Any]:
        """What is kept of the parts of a conversation that have no column."""
        if self.messages == "drop":
            rest = {key: value for key, value in rest.items() if key != "messages"}
        config = rest.get("agent_config")
        if self.prompts == "drop" and config is not None:
            rest = {**rest, "agent_config": self.configuration(config) if isinstance(config, dict) else MASK}
        if "drop" in (self.messages, self.prompts):
            told = {key: value for key, value in rest.items() if key not in ("messages", "agent_config")}
            rest = {**rest, **with_unknown(told, Conversation, _without_texts)}
        kept: dict[str, Any] = self.without_numbers(rest)
        return kept

    def without_numbers(self, value: Any) -> Any:
        """The value, with whatever may be a phone number masked unless numbers are kept."""
        return value if self.phone_numbers == "keep" else _throughout(value, _without_number)

    def configuration(self, config: dict[str, Any]) -> dict[str, Any]:
        """What is kept of a configuration."""
        if self.prompts == "drop":
            config = {
                key: MASK if key in ("prompt", "initial_message") and value is not None else value
                for key, value in config.items()
            }
            return with_unknown(
                config, AgentConfig, lambda value: self.without_numbers(_without_texts(value))
            )
        return with_unknown(config, AgentConfig, self.without_numbers)

    @property
    def keeps_everything(self) -> bool:
        """Whether nothing is left out or changed."""
        return all(getattr(self, item.name) == "keep" for item in fields(self) if item.name in _CHOICES)


def e164(number: str) -> str:
    """A number as `+` and digits. One without a country's prefix keeps its digits: nothing tells the country.

    What is no number, such as `anonymous` or a SIP address, is left as it is, so that it equals only itself.
    """
    digits = re.sub(r"\D", "", number.replace("(0)", "") if "+" in number else number)
    if not digits or _NO_NUMBER.search(number):
        return number.strip()
    if re.match(r"\W*\+", number.removeprefix("tel:")):
        return f"+{digits}"
    return f"+{digits[2:]}" if digits.startswith("00") else digits


def _without_texts(value: Any) -> Any:
    """The value, with every text masked that may tell what was said."""
    return _throughout(value, _without_text)


def _throughout(value: Any, mask: Callable[[Any], Any]) -> Any:
    """A copy of the value, masked to its ground.

    :param mask: returns a value as it is to be kept; of an object or a list a copy, whose values are not yet looked at
    """
    top = [mask(value)]
    todo: list[Any] = [top[0]] if isinstance(top[0], dict | list) else []
    while todo:  # and no recursion: JSON may be nested deeper than Python calls may be
        holder = todo.pop()
        for key, item in holder.items() if isinstance(holder, dict) else enumerate(holder):
            kept = holder[key] = mask(item)
            if isinstance(kept, dict | list):
                todo.append(kept)
    return top[0]


def _without_text(item: Any) -> Any:
    if isinstance(item, str):
        return MASK if item else item
    return item.copy() if isinstance(item, dict | list) else item


def _without_number(item: Any) -> Any:
    if isinstance(item, str):
        return _NUMBER.sub(MASK, item)
    if isinstance(item, int | Decimal) and not -_SMALLEST_NUMBER < item < _SMALLEST_NUMBER:
        return MASK
    if isinstance(item, dict):
        kept: dict[str, Any] = {}
        for key, value in item.items():
            masked = _NUMBER.sub(MASK, key)
            while masked in kept:  # two numbers are still two
                masked += "*"
            kept[masked] = value
        return kept
    return item.copy() if isinstance(item, list) else item
