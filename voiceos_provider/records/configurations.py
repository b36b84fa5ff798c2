"""What does an agent configuration say? Asked once for each distinct one, for most rows repeat it byte for byte."""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import Any

import msgspec

from voiceos_provider.api import values
from voiceos_provider.records.columns import CONVERSATIONS
from voiceos_provider.records.secrets import without_secrets

_COLUMNS = tuple(column for column in CONVERSATIONS if column.path[:1] == ("agent_config",))
_WITH_KEYS = ("language_model", "transcriber", "voice")
_REMEMBERED = 1_024


@dataclass(frozen=True, slots=True)
class Configuration:
    """The columns of one configuration, and which of its values fit none of them."""

    columns: dict[str, Any] = field(default_factory=dict)
    odd: Counter[str] = field(default_factory=Counter)


class Configurations:
    """Reads configurations, and remembers the latest ones by their bytes."""

    def __init__(self) -> None:
        self._memo: OrderedDict[bytes, Configuration] = OrderedDict()

    def read(self, raw: msgspec.Raw) -> Configuration:
        """:raises ValueError: if it is not an object"""
        key = bytes(raw)
        known = self._memo.get(key)
        if known is None:
            known = self._memo[key] = _read(values.loads(raw))
            if len(self._memo) > _REMEMBERED:
                self._memo.popitem(last=False)
        return known


def _read(config: values.JsonValue) -> Configuration:
    if not isinstance(config, dict):
        raise ValueError("not an object")
    prompt = config.get("prompt")
    config = without_secrets(config)
    text = values.dumps(config, sort_keys=True)
    result = Configuration(
        {
            "agent_config": text,
            "agent_config_hash": _sha256(text),
            "prompt_hash": _sha256(prompt) if isinstance(prompt, str) else None,
        }
    )
    for part in _WITH_KEYS:
        settings = config.get(part)
        own_key = settings.get("credential_id") is not None if isinstance(settings, dict) else None
        result.columns[f"{part}_own_key"] = own_key
        if settings is not None and own_key is None:
            result.odd[f"agent_config.{part}"] += 1
    for column in _COLUMNS:
        value: values.JsonValue = config
        for step in column.path[1:]:
            value = value.get(step) if isinstance(value, dict) else None
        try:
            result.columns[column.name] = None if value is None else column.kind.read(value)
        except ValueError:
            result.columns[column.name] = None
            result.odd[column.name] += 1  # the value itself stays in the agent_config column
    return result


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
