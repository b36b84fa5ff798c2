"""What does an agent configuration say? Asked once for each distinct one, for most rows repeat it byte for byte."""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from voiceos_provider.client import values
from voiceos_provider.client.models import AgentConfig
from voiceos_provider.transform.redaction import Redaction
from voiceos_provider.transform.schema import AGENT_CONFIGS, CONVERSATIONS, WITH_KEYS
from voiceos_provider.transform.secrets import without_secrets
from voiceos_provider.transform.undocumented_fields import unknown_keys

_SENT = tuple(column for column in AGENT_CONFIGS.columns if column.path)
_REMEMBERED = 4_096
_NULL = b"null"

SHARED: Final = tuple(
    column.name
    for column in CONVERSATIONS.columns
    if column.path[:1] == ("agent_config",)
    or column.name in ("agent_config_hash", "prompt_hash", *(f"{part}_own_key" for part in WITH_KEYS))
)
"""The columns of `conversations` that the configuration fills."""


@dataclass(frozen=True, slots=True, eq=False)
class Configuration:
    """One configuration.

    :param columns: its row in `agent_configs`; those of `conversations` are among them
    :param odd: which of its values fit no column
    :param unknown_keys: which of its keys are not documented
    """

    columns: dict[str, Any] = field(default_factory=dict)
    odd: Counter[str] = field(default_factory=Counter)
    unknown_keys: frozenset[str] = frozenset()


NONE: Final = Configuration()
"""A conversation that was sent without one."""


class Configurations:
    """Reads configurations, and remembers the latest ones by their bytes."""

    def __init__(self, redaction: Redaction) -> None:
        self._privacy = redaction
        self._memo: OrderedDict[bytes, Configuration] = OrderedDict()
        self._latest: dict[int, tuple[bytes, Configuration]] = {}

    def remembered(self, raws: Iterable[msgspec.Raw | None]) -> list[Configuration | None]:
        """Those of them that have been read before."""
        found: list[Configuration | None] = []
        for raw in raws:
            if raw is None:
                found.append(None)
                continue
            key = bytes(raw)
            # Kilobytes are compared in a tenth of the time in which they are hashed, and few are of one length.
            latest, known = self._latest.get(len(key), (None, None))
            if latest != key and (known := self._memo.get(key)):
                self._memo.move_to_end(key)
                if len(self._latest) >= _REMEMBERED:
                    self._latest.clear()
                self._latest[len(key)] = key, known
            found.append(known)
        return found

    def read(self, raw: msgspec.Raw) -> Configuration:
        """:raises ValueError: if it is not an object"""
        key = bytes(raw)
        if key == _NULL:
            return NONE
        known = self._memo.get(key)
        if known is None:
            known = self._memo[key] = _read(values.loads(raw), self._privacy)
            if len(self._memo) > _REMEMBERED:
                self._memo.popitem(last=False)
        else:
            self._memo.move_to_end(key)
        return known


def _read(config: values.JsonValue, redaction: Redaction) -> Configuration:
    if not isinstance(config, dict):
        raise ValueError("not an object")
    prompt = config.get("prompt")
    config = without_secrets(config)
    # Hashed before anything is dropped, so that versions stay apart whatever one keeps of them.
    result = Configuration(
        {
            "agent_config_hash": _sha256(values.dumps(config, sort_keys=True)),
            "prompt_hash": _sha256(prompt) if isinstance(prompt, str) else None,
            "agent_config": values.dumps(redaction.configuration(config), sort_keys=True),
        },
        unknown_keys=frozenset(unknown_keys(config, AgentConfig, "agent_config")),
    )
    for part in WITH_KEYS:
        settings = config.get(part)
        own_key = settings.get("credential_id") is not None if isinstance(settings, dict) else None
        result.columns[f"{part}_own_key"] = own_key
        if settings is not None and own_key is None:
            result.odd[f"agent_config.{part}"] += 1
    for column in _SENT:
        value: values.JsonValue = config
        for step in column.path[1:]:
            value = value.get(step) if isinstance(value, dict) else None
        if value is None or redaction.drops(column.personal):
            continue
        try:
            result.columns[column.name] = column.kind.read(value)
        except ValueError:
            result.odd[column.name] += 1  # the value itself stays in the agent_config column
    return result


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
