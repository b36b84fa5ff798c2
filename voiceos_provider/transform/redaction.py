"""Redaction: what is kept of personal data."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from voiceos_provider.client import values
from voiceos_provider.client.models import AgentConfig, Conversation
from voiceos_provider.client.values import JsonObject, JsonValue, map_json
from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.transform.credentials import MASK
from voiceos_provider.transform.schema_drift import ANY_VALUE, map_undocumented, shape_of

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
_PROMPTS = ("prompt", "initial_message")
_CONFIGURATION = shape_of(AgentConfig)
_REDACTED_APART = dict.fromkeys(("messages", "agent_config"), ANY_VALUE)
_LEFTOVER = shape_of(Conversation) | _REDACTED_APART


@dataclass(frozen=True, slots=True)
class Redaction:
    """Choices of what is kept of personal data.

    Recognizable credentials are always masked. Not covered: names and addresses, phone numbers in texts of a class that
    is kept or spelled out in words, `uri`, ids and other documented columns.

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
        return not self.public_choices

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

    def configuration(self, config: JsonObject) -> JsonObject:
        """Return what is kept of a configuration."""
        if self.phone_numbers == self.prompts == self.metadata == "keep":
            return config
        if "metadata" in config:
            config = config | {"metadata": self.mask_numbers(self._metadata(config["metadata"]))}
        if self.prompts == "drop":
            config = config | {key: MASK for key in _PROMPTS if config.get(key) is not None}
        kept: JsonObject = map_undocumented(config, _CONFIGURATION, self._undocumented_setting)
        return kept

    def _undocumented_setting(self, value: JsonValue) -> JsonValue:
        return self.mask_numbers(value if self.prompts == "keep" else _mask_texts(value))

    def leftover(self, rest: JsonObject) -> JsonObject:
        """Return what is kept of the parts of a conversation that have no column."""
        kept = {key: value for key, value in rest.items() if key != "messages" or self.messages == "keep"}
        config = kept.get("agent_config")
        if isinstance(config, dict):
            kept["agent_config"] = self.configuration(config)
        elif config is not None and not self.prompts == self.metadata == "keep":
            kept["agent_config"] = MASK
        if "drop" in (self.messages, self.prompts):
            kept = map_undocumented(kept, _LEFTOVER, _mask_texts)
        masked: JsonObject = self.mask_numbers(kept)
        return masked

    def mask_numbers(self, value: JsonValue) -> JsonValue:
        """Return the value with everything masked that looks like a phone number, unless these are kept."""
        if self.phone_numbers == "keep":
            return value
        return map_json(value, text=_mask_numbers, number=_mask_number, keys=_mask_keys)

    def _metadata(self, metadata: JsonValue) -> JsonValue:
        if metadata is None or self.metadata == "keep":
            return metadata
        if self.metadata == "drop":
            return MASK
        return map_json(
            metadata,
            text=lambda text: self._hashed(text) if text else text,
            number=lambda number: self._hashed(values.dumps(number)),
        )

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


def _mask_texts(value: JsonValue) -> JsonValue:
    return map_json(value, text=lambda text: MASK if text else text)


def _mask_numbers(text: str) -> str:
    return _PHONE_NUMBER.sub(_mask_match, text)


def _mask_number(number: int | Decimal) -> JsonValue:
    return number if -_SMALLEST_PHONE_NUMBER < number < _SMALLEST_PHONE_NUMBER else MASK


def _mask_keys(sent: JsonObject) -> JsonObject:
    kept: JsonObject = {}
    for place, (key, value) in enumerate(sent.items(), start=1):
        masked = _mask_numbers(key)
        while masked in kept or (masked != key and masked in sent):  # two numbers are still two keys
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
