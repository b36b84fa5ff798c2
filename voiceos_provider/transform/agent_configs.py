"""Agent configurations as rows. Most conversations repeat one byte for byte, so each is decoded once and cached."""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from typing import Any, Final

import msgspec

from voiceos_provider.client import values
from voiceos_provider.client.models import AgentConfig
from voiceos_provider.transform.credentials import mask_credentials
from voiceos_provider.transform.redaction import Redaction
from voiceos_provider.transform.schema import AGENT_CONFIGS, COMPONENTS_WITH_KEYS, CONVERSATIONS
from voiceos_provider.transform.schema_drift import (
    find_undocumented_fields,
    find_undocumented_values,
    safe_name,
)

_SOURCE_COLUMNS = tuple(column for column in AGENT_CONFIGS.columns if column.path)
_CACHE_SIZE = 4_096
_NULL = b"null"
_MAX_INTEGER = 10**18

CONFIGURATION_COLUMNS: Final = tuple(
    column.name
    for column in CONVERSATIONS.columns
    if column.path[:1] == ("agent_config",)
    or column.name
    in ("agent_config_hash", "prompt_hash", *(f"{component}_own_key" for component in COMPONENTS_WITH_KEYS))
)
"""The columns of `conversations` whose values come from the configuration."""


@dataclass(frozen=True, slots=True, eq=False)
class Configuration:
    """One configuration.

    :param columns: its row of `agent_configs`, which includes the configuration columns of `conversations`
    :param invalid_values: columns that cannot hold what was sent
    :param undocumented_fields: paths of fields that are not documented
    :param undocumented_values: column or path, and value, of enum values that are not documented
    """

    columns: dict[str, Any] = field(default_factory=dict)
    invalid_values: Counter[str] = field(default_factory=Counter)
    undocumented_fields: frozenset[str] = frozenset()
    undocumented_values: list[tuple[str, str]] = field(default_factory=list)


NO_CONFIGURATION: Final = Configuration()
"""The configuration of a conversation that was sent without one."""


class ConfigurationCache:
    """Decodes configurations and caches the latest ones by their bytes."""

    def __init__(self, redaction: Redaction) -> None:
        self._redaction = redaction
        self._by_bytes: OrderedDict[bytes, Configuration] = OrderedDict()
        self._latest_by_length: dict[int, tuple[bytes, Configuration]] = {}

    def cached(self, raws: Iterable[msgspec.Raw | None]) -> list[Configuration | None]:
        """Return the cached configuration of each, or None."""
        found: list[Configuration | None] = []
        for raw in raws:
            if raw is None:
                found.append(None)
                continue
            key = bytes(raw)
            # Comparing kilobytes takes a tenth of the time of hashing them, and few configurations have one length.
            latest, configuration = self._latest_by_length.get(len(key), (None, None))
            if latest != key and (configuration := self._by_bytes.get(key)):
                self._by_bytes.move_to_end(key)
                if len(self._latest_by_length) >= _CACHE_SIZE:
                    self._latest_by_length.clear()
                self._latest_by_length[len(key)] = key, configuration
            found.append(configuration)
        return found

    def decode(self, raw: msgspec.Raw) -> Configuration:
        """Return one configuration.

        :raises ValueError: if it is not a JSON object
        """
        key = bytes(raw)
        if key == _NULL:
            return NO_CONFIGURATION
        configuration = self._by_bytes.get(key)
        if configuration is None:
            configuration = self._by_bytes[key] = _decode(values.loads(raw), self._redaction)
            if len(self._by_bytes) > _CACHE_SIZE:
                self._by_bytes.popitem(last=False)
        else:
            self._by_bytes.move_to_end(key)
        return configuration


def _decode(config: values.JsonValue, redaction: Redaction) -> Configuration:
    if not isinstance(config, dict):
        raise ValueError("not an object")
    prompt = config.get("prompt")
    config = mask_credentials(config, change_number=_canonical_number)
    version = text = values.dumps(redaction.with_prompts.configuration(config), sort_keys=True)
    if redaction.prompts == "drop":
        text = values.dumps(redaction.configuration(config), sort_keys=True)
    result = Configuration(
        {
            # Made from what is kept: a hash of a dropped phone number could be found by trying all numbers.
            "agent_config_hash": _sha256(version),
            "prompt_hash": _sha256(prompt) if isinstance(prompt, str) else None,
            "agent_config": text,
        },
        undocumented_fields=frozenset(find_undocumented_fields(config, AgentConfig, "agent_config")),
        undocumented_values=list(find_undocumented_values(config)),
    )
    for component in COMPONENTS_WITH_KEYS:
        settings = config.get(component)
        own_key = settings.get("credential_id") is not None if isinstance(settings, dict) else None
        result.columns[f"{component}_own_key"] = own_key
        if settings is not None and own_key is None:
            result.invalid_values[f"agent_config.{component}"] += 1
    for column in _SOURCE_COLUMNS:
        value: values.JsonValue = config
        for step in column.path[1:]:
            value = value.get(step) if isinstance(value, dict) else None
        if value is None or redaction.drops(column.pii):
            continue
        try:
            result.columns[column.name] = column.kind.read(value)
        except ValueError:
            result.invalid_values[column.name] += 1  # the value itself stays in the agent_config column
            continue
        if column.documented_values and value not in column.documented_values:
            result.undocumented_values.append((f"{CONVERSATIONS.name}.{column.name}", safe_name(value)))
    return result


def _canonical_number(item: int | Decimal) -> int | Decimal:
    """Return an equal number that has one spelling: 600 for 600.0 and 6e2."""
    if isinstance(item, int) and -_MAX_INTEGER < item < _MAX_INTEGER:
        return item
    exact = Decimal(item)
    digits = len(exact.as_tuple().digits)
    number = exact.normalize(Context(prec=digits, Emin=MIN_EMIN, Emax=MAX_EMAX))
    is_integer = number == number.to_integral_value() and -_MAX_INTEGER < number < _MAX_INTEGER
    return int(number) if is_integer else number


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
