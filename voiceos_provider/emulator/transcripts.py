"""Transcript of each conversation, composed of messages that are serialized in advance."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Literal

from voiceos_provider.emulator.agents import Agent
from voiceos_provider.emulator.rng import random_number
from voiceos_provider.emulator.scripts import SLOTS, Script
from voiceos_provider.emulator.timestamps import MINUTE, NEVER, SECOND

_VARIANTS = 16
_FEWEST_EXCHANGES, _MOST_EXCHANGES = 2, 6
_SECONDS_PER_EXCHANGE = 55
_CRASHES_AFTER = 2 * MINUTE


class Transcripts:
    """Transcripts of one agent's conversations."""

    def __init__(self, *, seed: int, agent: Agent) -> None:
        greeting = agent.config["initial_message"]
        self._greeting = [] if greeting is None else [_message("agent", greeting)]
        self._farewell = [_message("user", agent.script.farewell)]
        self._turns = _turns(seed, agent.script)
        self._exchanges = [[b",".join(turns) for turns in variants] for variants in self._turns]

    def whole(self, chance: int, *, lasted: int) -> bytes:
        """Return all messages of an ended conversation, without the brackets of the list."""
        variants = [
            exchange[chance >> 4 * nth & 15]
            for nth, exchange in enumerate(self._exchanges[: self._exchange_count(chance, lasted)])
        ]
        return b",".join((*self._greeting, *variants, *self._ending(chance)))

    def so_far(self, chance: int, *, started: int, ended: int, now: int) -> bytes:
        """Return the messages until now of a conversation that has started."""
        crashed = ended == NEVER
        lasts = _CRASHES_AFTER if crashed else ended - started
        turns = list(self._greeting)
        for nth, exchange in enumerate(self._turns[: self._exchange_count(chance, lasts)]):
            turns += exchange[chance >> 4 * nth & 15]
        turns += self._ending(chance)
        said = 1 + len(turns) * (now - started) // lasts
        # A crashed conversation never reaches its end.
        return b",".join(turns[: min(said, len(turns) // 2 if crashed else len(turns))])

    def _exchange_count(self, chance: int, lasted: int) -> int:
        count = _FEWEST_EXCHANGES + lasted // (_SECONDS_PER_EXCHANGE * SECOND) + (chance >> 60 & 1)
        return min(count, _MOST_EXCHANGES)

    def _ending(self, chance: int) -> list[bytes]:
        return self._farewell if chance >> 61 & 1 else []


@lru_cache(maxsize=64)
def _turns(seed: int, script: Script) -> list[list[tuple[bytes, bytes]]]:
    """Return the messages of each exchange of a script, in each variant."""
    return [
        [_exchange(seed, script, exchange, variant) for variant in range(_VARIANTS)]
        for exchange in range(len(script.exchanges))
    ]


def _exchange(seed: int, script: Script, exchange: int, variant: int) -> tuple[bytes, bytes]:
    words = {
        slot: choices[
            random_number(seed, f"{script.slug}, exchange {exchange}, variant {variant}, {slot}")
            % len(choices)
        ]
        for slot, choices in SLOTS[script.language].items()
    }
    user, agent = (sentence.format_map(words) for sentence in script.exchanges[exchange])
    return _message("user", user), _message("agent", agent)


def _message(role: Literal["agent", "user"], content: str) -> bytes:
    message = {"role": role, "content": content}
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()
