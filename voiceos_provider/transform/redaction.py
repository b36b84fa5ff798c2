"""Redaction: what is kept of personal data."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal

from voiceos_provider.client import values
from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.transform.credentials import MASK
from voiceos_provider.transform.schema_drift import map_undocumented

KeepOrDrop = Literal["keep", "drop"]
KeepDropOrHash = Literal["keep", "drop", "hash"]

_CHOICES = {
    "phone_numbers": ("keep", "drop", "hash"),
    "messages": ("keep", "drop"),
    "prompts": ("keep", "drop"),
    "metadata": ("keep", "drop", "hash"),
}
_PHONE_NUMBER = re.compile(r"\+?\d(?:[\s()./-]*+\d)*+")
_FIRST_GROUP = re.compile(r"\d++[\s()./-]++")
_END_OF_NUMBER = re.compile(r"x|ext|\W|_|\Z", re.IGNORECASE)
_SHORTEST_PHONE_NUMBER = 7  # characters after a plus sign
_SMALLEST_PHONE_NUMBER = 10 ** (_SHORTEST_PHONE_NUMBER - 1)
_NOT_A_NUMBER = re.compile(r"@|[^\W\d]{4}")  # an address or a word, but not `tel:` or `ext`
_SHORTEST_KEY = 16


@dataclass(frozen=True, slots=True)
class Redaction:
    """Choices of what is kept of personal data.

    Credentials are always masked. Not covered: names, addresses and other personal data in a class that is kept; phone
    numbers and credentials inside of kept messages, and phone numbers inside of kept prompts, initial messages, tools
    and settings of a voice or a transcriber; numbers that are spelled out in words or have fewer than seven digits;
    `uri`, ids and other documented columns.

    :param phone_numbers: `keep`, `drop`, or `hash`: HMAC-SHA256 of the number in E.164 form, which identifies repeat
        callers without the number. Unless kept, what looks like a phone number is also masked in
        `agent_config.metadata` and in undocumented fields
    :param messages: `keep` or `drop` what was said; roles and the number of messages remain. If dropped, texts in
        undocumented fields of a conversation are masked, too
    :param prompts: `keep` or `drop` prompts and initial messages; their hashes remain. If dropped, texts in
        undocumented fields of a conversation and of its configuration are masked, too
    :param metadata: `keep` or `drop` `agent_config.metadata`, or `hash` each text and number in it (HMAC-SHA256), which
        keeps its keys and shows which values are equal
    :param hash_key: secret key of the hashes
    """

    phone_numbers: KeepDropOrHash = "keep"
    messages: KeepOrDrop = "keep"
    prompts: KeepOrDrop = "keep"
    metadata: KeepDropOrHash = "keep"
    hash_key: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if "hash" in (self.phone_numbers, self.metadata) and len(self.hash_key) < _SHORTEST_KEY:
            raise VoiceOSValueError(
                "redaction: 'hash' needs a secret key of at least 16 characters. Set the extra field phone_hash_key of "
                "the VoiceOS connection."
            )

    @classmethod
    def choose(cls, choices: Mapping[str, str] | None, hash_key: str | None) -> Redaction:
        """Return the redaction for a user's choices.

        :raises VoiceOSValueError: if a class of data or a choice does not exist, or the key is missing
        """
        for name, choice in (choices or {}).items():
            if name not in _CHOICES:
                raise VoiceOSValueError(f"redaction: {name!r} is not one of {', '.join(_CHOICES)}.")
            if choice not in _CHOICES[name]:
                raise VoiceOSValueError(
                    f"redaction: {name} {choice!r} is not one of {', '.join(_CHOICES[name])}."
                )
        chosen: Any = dict(choices or {})
        return cls(**chosen, hash_key=hash_key or "")

    def drops(self, pii: str | None) -> bool:
        """Return whether a class of personal data is dropped."""
        return pii is not None and getattr(self, pii) == "drop"

    @property
    def keeps_everything(self) -> bool:
        """Whether nothing is dropped or changed."""
        return all(getattr(self, name) == "keep" for name in _CHOICES)

    @property
    def public_choices(self) -> dict[str, str]:
        """The choices other than ``keep``, and the id of the key if anything is hashed; never the key itself."""
        choices = {name: getattr(self, name) for name in _CHOICES}
        changed = {name: choice for name, choice in choices.items() if choice != "keep"}
        return changed | ({"key_id": self.key_id} if self.key_id else {})

    @property
    def key_id(self) -> str | None:
        """An identifier of the key of hashes that does not reveal it; None if nothing is hashed."""
        if "hash" not in (self.phone_numbers, self.metadata):
            return None
        return hashlib.sha256(b"phone_hash_key:" + self.hash_key.encode()).hexdigest()[:12]

    def phone_number(self, number: str | None) -> str | None:
        """Return what is kept of a phone number."""
        if number is None or self.phone_numbers == "keep":
            return number
        return None if self.phone_numbers == "drop" else self._hashed(e164(number))

    def configuration(self, config: dict[str, Any]) -> dict[str, Any]:
        """Return what is kept of a configuration."""
        if self.phone_numbers == self.prompts == self.metadata == "keep":
            return config
        from voiceos_provider.client.models import AgentConfig

        if self.metadata != "keep" and config.get("metadata") is not None:
            config = {**config, "metadata": self._metadata(config["metadata"])}
        if self.phone_numbers != "keep" and "metadata" in config:
            config = {**config, "metadata": self.mask_numbers(config["metadata"])}
        if self.prompts == "keep":
            return map_undocumented(config, AgentConfig, self.mask_numbers)
        config = {
            key: MASK if key in ("prompt", "initial_message") and value is not None else value
            for key, value in config.items()
        }
        return map_undocumented(config, AgentConfig, lambda value: self.mask_numbers(_mask_texts(value)))

    @property
    def with_prompts(self) -> Redaction:
        """The same choices, but prompts are kept."""
        return self if self.prompts == "keep" else replace(self, prompts="keep")

    def leftover(self, rest: dict[str, Any]) -> dict[str, Any]:
        """Return what is kept of the parts of a conversation that have no column."""
        from voiceos_provider.client.models import Conversation

        if self.messages == "drop":
            rest = {key: value for key, value in rest.items() if key != "messages"}
        config = rest.get("agent_config")
        if isinstance(config, dict):
            rest = {**rest, "agent_config": self.configuration(config)}
        elif config is not None and (self.prompts != "keep" or self.metadata != "keep"):
            rest = {**rest, "agent_config": MASK}
        if "drop" in (self.messages, self.prompts):
            others = {key: value for key, value in rest.items() if key not in ("messages", "agent_config")}
            rest = {**rest, **map_undocumented(others, Conversation, _mask_texts)}
        kept: dict[str, Any] = self.mask_numbers(rest)
        return kept

    def mask_numbers(self, value: Any) -> Any:
        """Return the value with everything masked that looks like a phone number, unless these are kept."""
        return value if self.phone_numbers == "keep" else _map(value, _mask_number)

    def _metadata(self, metadata: Any) -> Any:
        return MASK if self.metadata == "drop" else _map(metadata, self._hash_item)

    def _hash_item(self, item: Any) -> Any:
        if isinstance(item, dict | list):
            return item.copy()
        if isinstance(item, str):
            return self._hashed(item) if item else item
        is_number = isinstance(item, int | Decimal) and not isinstance(item, bool)
        return self._hashed(values.dumps(item)) if is_number else item

    def _hashed(self, text: str) -> str:
        return hmac.new(self.hash_key.encode(), text.encode(), hashlib.sha256).hexdigest()


def e164(number: str) -> str:
    """Return a phone number as `+` and digits. Without a country's prefix it keeps its digits only.

    Text that is not a number, such as `anonymous` or a SIP address, is returned unchanged.
    """
    digits = re.sub(r"\D", "", number.replace("(0)", "") if "+" in number else number)
    if not digits or _NOT_A_NUMBER.search(number):
        return number.strip()
    if re.match(r"\W*\+", number.removeprefix("tel:")):
        return f"+{digits}"
    return f"+{digits[2:]}" if digits.startswith("00") else digits


def _map(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return a copy of the value with every item changed, at any depth.

    :param change: returns an item as it is kept; of an object or a list it returns a copy with the items unchanged
    """
    top = [change(value)]
    todo: list[Any] = [top[0]] if isinstance(top[0], dict | list) else []
    while todo:  # JSON may be nested deeper than Python can call
        parent = todo.pop()
        for key, item in parent.items() if isinstance(parent, dict) else enumerate(parent):
            kept = parent[key] = change(item)
            if isinstance(kept, dict | list):
                todo.append(kept)
    return top[0]


def _mask_texts(value: Any) -> Any:
    return _map(value, _mask_text)


def _mask_text(item: Any) -> Any:
    if isinstance(item, str):
        return MASK if item else item
    return item.copy() if isinstance(item, dict | list) else item


def _mask_number(item: Any) -> Any:
    if isinstance(item, str):
        return _PHONE_NUMBER.sub(_mask_match, item)
    if isinstance(item, int | Decimal) and not -_SMALLEST_PHONE_NUMBER < item < _SMALLEST_PHONE_NUMBER:
        return MASK
    if not isinstance(item, dict):
        return item.copy() if isinstance(item, list) else item
    kept: dict[str, Any] = {}
    for place, (key, value) in enumerate(item.items(), start=1):
        masked = _PHONE_NUMBER.sub(_mask_match, key)
        while masked in kept or (masked != key and masked in item):  # two numbers are still two keys
            masked += str(place)
        kept[masked] = value
    return kept


def _mask_match(match: re.Match[str]) -> str:
    """Mask a run of digits and separators if it may be a phone number, which is part of no longer word."""
    run, text = match[0], match.string
    kept = ""
    if not run.startswith("+"):
        if not _END_OF_NUMBER.match(text, match.end()):
            return run
        if text[match.start() - 1 : match.start()].isalnum():
            group = _FIRST_GROUP.match(run)
            kept = group[0] if group else run
    length = len(run) - run.startswith("+") - len(kept)
    return f"{kept}{MASK}" if length >= _SHORTEST_PHONE_NUMBER else run
