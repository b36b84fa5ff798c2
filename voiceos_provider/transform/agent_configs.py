"""Agent configurations as rows. Most conversations repeat one byte for byte, so each is decoded once and cached."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field, replace
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from functools import lru_cache, partial
from typing import Any, Final

import msgspec

from voiceos_provider.client import values
from voiceos_provider.client.models import AgentConfig
from voiceos_provider.transform.column_values import CONVERTERS
from voiceos_provider.transform.credentials import mask_credentials
from voiceos_provider.transform.redaction import Redaction
from voiceos_provider.transform.schema import AGENT_CONFIGS, COMPONENTS_WITH_KEYS, CONVERSATIONS
from voiceos_provider.transform.schema_drift import (
    Drift,
    find_undocumented_fields,
    find_undocumented_values,
    shape_of,
)

_SOURCE_COLUMNS = tuple(column for column in AGENT_CONFIGS.columns if column.path)
_SHAPE = shape_of(AgentConfig)
_CACHE_SIZE = 4_096
_MAX_INTEGER = 10**18


@dataclass(frozen=True, slots=True, eq=False)
class Configuration:
    """One configuration.

    :param columns: its row of `agent_configs`, which includes `CONFIGURATION_COLUMNS`
    :param drift: its differences from the contract, each counted once
    """

    columns: dict[str, Any] = field(default_factory=dict)
    drift: Drift = field(default_factory=Drift)


NO_CONFIGURATION: Final = Configuration()
"""The configuration of a conversation that was sent without one."""


class ConfigurationCache:
    """Decodes configurations, and caches the latest ones by their bytes."""

    def __init__(self, redaction: Redaction) -> None:
        self._decode = lru_cache(_CACHE_SIZE)(partial(_decode, redaction))
        self._latest_by_length: dict[int, tuple[msgspec.Raw, Configuration]] = {}

    def decode(self, raw: msgspec.Raw) -> Configuration:
        """Return one configuration.

        :raises ValueError: if it is not a JSON object
        """
        # Comparing kilobytes takes a tenth of the time of hashing them, and few configurations have one length.
        latest = self._latest_by_length.get(len(raw))
        if latest and latest[0] == raw:
            return latest[1]
        configuration = self._decode(bytes(raw))
        if len(self._latest_by_length) >= _CACHE_SIZE:
            self._latest_by_length.clear()
        self._latest_by_length[len(raw)] = raw.copy(), configuration
        return configuration


def _decode(redaction: Redaction, raw: bytes) -> Configuration:
    config = values.loads(raw)
    if config is None:
        return NO_CONFIGURATION
    if not isinstance(config, dict):
        raise ValueError("not an object")
    prompt = config.get("prompt")
    config = mask_credentials(config, _canonical_number)
    version = text = values.dumps(replace(redaction, prompts="keep").configuration(config), sort_keys=True)
    if redaction.prompts == "drop":
        text = values.dumps(redaction.configuration(config), sort_keys=True)
    columns: dict[str, Any] = {
        # Made from what is kept: a hash of a dropped phone number could be found by trying all numbers.
        "agent_config_hash": _sha256(version),
        "prompt_hash": _sha256(prompt) if isinstance(prompt, str) else None,
        "agent_config": text,
    }
    drift = Drift(undocumented_fields=Counter(set(find_undocumented_fields(config, _SHAPE, "agent_config"))))
    for path, unknown in find_undocumented_values(config):
        drift.add_undocumented_values(path, [unknown])
    for component in COMPONENTS_WITH_KEYS:
        settings = config.get(component)
        if isinstance(settings, dict):
            columns[f"{component}_own_key"] = settings.get("credential_id") is not None
        elif settings is not None:
            drift.invalid_values[f"agent_config.{component}"] += 1
    for column in _SOURCE_COLUMNS:
        value: values.JsonValue = config
        for step in column.path[1:]:
            value = value.get(step) if isinstance(value, dict) else None
        if value is None or redaction.drops(column.pii):
            continue
        try:
            columns[column.name] = CONVERTERS[column.kind](value)
        except ValueError:
            drift.invalid_values[column.name] += 1  # the value itself stays in the agent_config column
            continue
        if column.documented_values:
            drift.add_enum_values(CONVERSATIONS, column, [value])
    return Configuration(columns, drift)


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
