"""Costs of each conversation, as JSON.

Amounts are not rounded (0.056900000000000006), like those of the API. Every product and sum is one of IEEE doubles in a
fixed order, so the digits are the same on every machine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from voiceos_provider.emulator.agents import Agent
from voiceos_provider.emulator.population import Population
from voiceos_provider.emulator.rng import below, random_numbers
from voiceos_provider.emulator.timestamps import SECOND

_AGENT_PER_SECOND = 0.0005
_TELEPHONY_PER_MINUTE = 0.014
_VOICE_PER_CHARACTER = {
    "playht": 0.0001, "elevenlabs": 0.00018, "azure": 0.000016, "deepgram": 0.000015, "rimeai": 0.00005,
}  # fmt: skip
_TRANSCRIBER_PER_SECOND = {"deepgram": 0.0000715, "azure": 0.000278}
_MODEL_PER_TOKEN = {"gpt-4o": 0.000005, "gpt-3": 0.0000005, "gpt-4": 0.00001, "gemini": 0.00000035}
_OUTPUT_TOKEN_COSTS_TIMES = 3

_SLOT = re.compile(r'"<(\d+)(%[^>]+)>"')
# The columns that the templates are filled from, in this order.
_TOTAL, _VOICE, _TRANSCRIBER, _MODEL, _TELEPHONY, _AGENT = range(6)
_CHARACTERS, _HEARD, _INPUT, _OUTPUT, _SECONDS = range(6, 11)


class CostWriter:
    """Writer of the `cost_breakdown` of ended conversations."""

    def __init__(self, *, seed: int, agents: Sequence[Agent]) -> None:
        self._seed = seed
        self._templates = [_template(agent) for agent in agents]
        # A component that is not in the breakdown costs nothing here, so that it is not in the total either.
        self._voice = np.array([_voice_rate(agent) for agent in agents])
        self._transcriber = np.array([_transcriber_rate(agent) for agent in agents])
        self._model = np.array([_model_rate(agent) for agent in agents])
        self._telephony = np.array([_telephony_rate(agent) for agent in agents])

    def write(self, rows: Population) -> list[str]:
        """Return one JSON object for each row; every row must have ended."""
        agent = rows.agent
        lasted = rows.ended - rows.started
        seconds = -(-lasted // SECOND)
        heard = (lasted // (SECOND // 10)) / 10
        characters = seconds * (3 + below(random_numbers(self._seed, "talkative", rows.ordinal), 6))
        input_tokens = 400 + seconds * (
            8 + below(random_numbers(self._seed, "input tokens", rows.ordinal), 17)
        )
        output_tokens = 20 + seconds * (
            1 + below(random_numbers(self._seed, "output tokens", rows.ordinal), 2)
        )

        voice = characters * self._voice[agent]
        transcriber = heard * self._transcriber[agent]
        model = (input_tokens + _OUTPUT_TOKEN_COSTS_TIMES * output_tokens) * self._model[agent]
        telephony = -(-seconds // 60) * self._telephony[agent]
        own = seconds * _AGENT_PER_SECOND
        total = voice + transcriber + model + telephony + own

        columns = (total, voice, transcriber, model, telephony, own)
        counts = (characters, heard, input_tokens, output_tokens, seconds)
        values = zip(*(column.tolist() for column in (*columns, *counts)), strict=True)
        templates = self._templates
        return [templates[which](row) for which, row in zip(agent.tolist(), values, strict=True)]


def _template(agent: Agent) -> Callable[[tuple[Any, ...]], str]:
    """Return a function that writes the breakdown of one conversation from the values of its columns."""

    def slot(column: int, format: str = "%r") -> str:
        return f"<{column}{format}>"

    components: dict[str, Any] = {
        "voice": {"provider": _voice_provider(agent), "cost": slot(_VOICE), "characters": slot(_CHARACTERS)},
        "transcriber": {
            "provider": agent.config["transcriber"]["provider"],
            "cost": slot(_TRANSCRIBER),
            "seconds": slot(_HEARD),
        },
        "language_model": {
            "provider": agent.config["language_model"]["provider"],
            "cost": slot(_MODEL),
            "input_tokens": slot(_INPUT),
            "output_tokens": slot(_OUTPUT),
        },
        "telephony": None
        if agent.kind == "web_call"
        else {
            "provider": "twilio",
            "cost": 0 if agent.imported_number else slot(_TELEPHONY),
            "seconds": slot(_SECONDS),
        },
        "agent": {"provider": "voiceos", "cost": slot(_AGENT), "seconds": slot(_SECONDS)},
    }
    for component in agent.own_keys:
        if agent.unpriced == "missing component":
            del components[component]
        elif agent.unpriced == "null component":
            components[component] = None
        else:
            components[component]["cost"] = None
    # Rounded, a total is no longer the sum of its parts: nothing promises that it is.
    total = slot(_TOTAL, "%.2f" if agent.rounded_total else "%r")
    skeleton = json.dumps({"total": total, **components}, separators=(",", ":"))
    # Of Python's ways to put numbers into a text, this one is the quickest.
    template = _SLOT.sub(r"\2", skeleton)
    pick = itemgetter(*(int(column) for column, _ in _SLOT.findall(skeleton)))
    return lambda row: template % pick(row)


def _voice_provider(agent: Agent) -> str:
    provider: str = agent.config["voice"]["provider"]
    # The configuration and the breakdown name this provider differently.
    return "rimeai" if provider == "rime" else provider


def _voice_rate(agent: Agent) -> float:
    return 0.0 if "voice" in agent.own_keys else _VOICE_PER_CHARACTER[_voice_provider(agent)]


def _transcriber_rate(agent: Agent) -> float:
    provider = agent.config["transcriber"]["provider"]
    return 0.0 if "transcriber" in agent.own_keys else _TRANSCRIBER_PER_SECOND[provider]


def _model_rate(agent: Agent) -> float:
    if "language_model" in agent.own_keys:
        return 0.0
    name: str = agent.config["language_model"]["model"]
    return next(rate for prefix, rate in _MODEL_PER_TOKEN.items() if name.startswith(prefix))


def _telephony_rate(agent: Agent) -> float:
    return 0.0 if agent.kind == "web_call" or agent.imported_number else _TELEPHONY_PER_MINUTE
