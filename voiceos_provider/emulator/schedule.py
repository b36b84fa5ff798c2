"""When does something go wrong? At requests that were named, or by a seeded chance."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from voiceos_provider.emulator.dice import lot
from voiceos_provider.emulator.faults import Fault

Endpoint = Literal["list", "conversation", "recording"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    fault: Fault
    endpoint: Endpoint
    at: frozenset[int] | None
    probability: float


class Schedule:
    """What will go wrong, and how many requests of each kind there were."""

    def __init__(self, *, seed: int) -> None:
        self._seed = seed
        self._rules: list[_Rule] = []
        self._counted: Counter[Endpoint] = Counter()
        self._counting = threading.Lock()

    def add(
        self,
        fault: Fault,
        *,
        at: Iterable[int] | None = None,
        probability: float | None = None,
        on: Endpoint = "list",
    ) -> None:
        """Let it go wrong at the nth requests of this kind, counted from 1; or by chance; or, with neither, always."""
        if at is not None and probability is not None:
            raise ValueError("Give at or probability, not both: a request is either named or left to chance.")
        if probability is not None and not 0 <= probability <= 1:
            raise ValueError(f"probability is {probability}; it must lie between 0 and 1.")
        numbers = None if at is None else frozenset(at)
        self._rules.append(
            _Rule(
                fault=fault, endpoint=on, at=numbers, probability=1.0 if probability is None else probability
            )
        )

    def clear(self) -> None:
        """Let nothing go wrong any more; requests stay counted."""
        self._rules.clear()

    def count(self, endpoint: Endpoint) -> int:
        """Count one more request, and say which it is."""
        with self._counting:
            self._counted[endpoint] += 1
            return self._counted[endpoint]

    def due(self, endpoint: Endpoint, nth: int) -> list[Fault]:
        """What goes wrong with the nth request of this kind; the same for a seed, whatever the order of the rest."""
        return [
            rule.fault
            for number, rule in enumerate(list(self._rules))
            if rule.endpoint == endpoint
            and (nth in rule.at if rule.at is not None else self._by_chance(rule, number, nth))
        ]

    def _by_chance(self, rule: _Rule, number: int, nth: int) -> bool:
        return lot(self._seed, f"fault {number} at {rule.endpoint} {nth}") < rule.probability * 2**64
