"""Agents of the account and their configurations.

Each agent went through three versions. A version's configuration is one object, serialised once: it is repeated byte
for byte in every conversation that was held with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from voiceos_provider.emulator.rng import random_number
from voiceos_provider.emulator.scripts import COMMON_RULES, SCRIPTS, SLOTS, Script

Kind = Literal["inbound_phone_call", "outbound_phone_call", "web_call"]
Unpriced = Literal["null component", "missing component", "null cost"]

VERSIONS = 3
_RULES_PER_VERSION = 9

# Script, kind, weight among all conversations, account, and what is special about this agent.
_LINES: tuple[tuple[str, Kind, int, int, str], ...] = (
    ("dental", "inbound_phone_call", 16, 0, ""),
    ("dental", "outbound_phone_call", 8, 0, "own voice key"),
    ("parcels", "inbound_phone_call", 12, 1, "imported number"),
    ("parcels", "outbound_phone_call", 10, 1, ""),
    ("claims", "inbound_phone_call", 7, 1, "unlimited"),
    ("claims", "web_call", 5, 2, "own language model key"),
    ("restaurant", "inbound_phone_call", 6, 0, ""),
    ("restaurant", "web_call", 4, 0, "rounded total"),
    ("energy", "inbound_phone_call", 6, 3, "own transcriber key"),
    ("energy", "outbound_phone_call", 5, 3, "imported number"),
    ("hotel", "inbound_phone_call", 5, 4, "user speaks first"),
    ("hotel", "web_call", 4, 4, "inline"),
    ("leads", "outbound_phone_call", 8, 2, "short limit"),
    ("leads", "web_call", 4, 2, "own voice key"),
)

_VOICES: tuple[dict[str, Any], ...] = (
    {"provider": "playht", "model": "susan", "speed": 1.0, "temperature": None, "text_guidance": None,
     "style_guidance": None},
    {"provider": "elevenlabs", "voice_id": "rachel", "similarity_boost": 0.75, "stability": 0.5},
    {"provider": "playht", "model": "will", "speed": 1.1, "temperature": 0.7, "text_guidance": 1.5,
     "style_guidance": 12},
    {"provider": "azure", "voice_id": "en-US-JennyNeural"},
    {"provider": "deepgram", "model": "aura-asteria-en"},
    {"provider": "rime", "model": "mist", "speaker": "marsh"},
)  # fmt: skip
_MODELS = (
    ("openai", "gpt-3.5-turbo-0125"), ("openai", "gpt-4-turbo-2024-04-09"), ("openai", "gpt-4o"),
    ("openai", "gpt-4-turbo-preview"), ("google", "gemini-1.5-flash"), ("openai", "gpt-4o"),
)  # fmt: skip
_EVENTS = ("conversation:started", "conversation:ended", "phone_call:rejected", "function_call:triggered")


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """One version of one agent."""

    kind: Kind
    weight: int
    script: Script
    config: dict[str, Any]
    account_id: str
    agent_id: str | None
    phone_number: str
    imported_number: bool
    rounded_total: bool
    own_keys: frozenset[str]
    unpriced: Unpriced

    @property
    def max_duration_seconds(self) -> int | None:
        """Limit of a call; None means unlimited."""
        limit: int | None = self.config["max_duration_seconds"]
        return limit


def agents(seed: int) -> tuple[Agent, ...]:
    """Return every version of every agent; the versions of one agent are adjacent, oldest first."""
    return tuple(_agent(seed, line, version) for line in range(len(_LINES)) for version in range(VERSIONS))


def _agent(seed: int, line: int, version: int) -> Agent:
    slug, kind, weight, account, peculiarity = _LINES[line]
    script = next(script for script in SCRIPTS if script.slug == slug)
    component = peculiarity.removeprefix("own ").removesuffix(" key").replace(" ", "_")
    own_keys = frozenset({component} if peculiarity.startswith("own ") and version > 0 else ())
    ways: tuple[Unpriced, ...] = ("null component", "missing component", "null cost")
    return Agent(
        kind=kind,
        weight=weight,
        script=script,
        config=_config(seed, line, version, script, own_keys),
        account_id=f"acc_{random_number(seed, f'account {account}') & 0xFFFFFFFF:08x}",
        agent_id=None
        if peculiarity == "inline"
        else f"agt_{random_number(seed, f'agent {line}') & 0xFFFFFFFF:08x}",
        phone_number=f"+1{200 + random_number(seed, f'number {line}') % 800}55501{line:02d}",
        imported_number=peculiarity == "imported number",
        rounded_total=peculiarity == "rounded total",
        own_keys=own_keys,
        unpriced=ways[line // 4 % 3],
    )


def _config(seed: int, line: int, version: int, script: Script, own_keys: frozenset[str]) -> dict[str, Any]:
    _, kind, _, _, peculiarity = _LINES[line]
    outbound = kind == "outbound_phone_call"
    greeting = script.outbound_greeting if outbound else script.greeting

    def credential(component: str) -> str | None:
        return (
            f"crd_{random_number(seed, f'{component} key {line}') & 0xFFFFFFFF:08x}"
            if component in own_keys
            else None
        )

    provider, model = _MODELS[(line + version) % len(_MODELS)]
    voice = _VOICES[(line + version // 2) % len(_VOICES)]
    return {
        "initial_message": None if peculiarity == "user speaks first" else greeting,
        "prompt": _prompt(script, version, outbound=outbound),
        "voice": {"provider": voice["provider"], "credential_id": credential("voice"), **voice},
        "language_model": {
            "provider": provider,
            "credential_id": credential("language_model"),
            "model": model,
            "tools": _tools(script, version),
            "temperature": (0, 0.2, 0.7)[(line + version) % 3],
            "max_tokens": 300 if version < VERSIONS - 1 else 250,
        },
        "transcriber": _transcriber(script, line, credential("transcriber")),
        "max_duration_seconds": {"unlimited": None, "short limit": 240}.get(peculiarity, 600),
        "webhooks": _webhooks(seed, line),
        "hooks": [
            {
                "events": ["conversation:duration"],
                "filter": "duration > 540",
                "instructions": [{"instruction": "hang_up"}],
            }
        ],
        "metadata": {
            "name": f"{script.slug}-{kind.split('_')[0]}",
            "prompt_version": f"v{version + 1 + line % 4}",
            **({"environment": "production", "owner": "customer-care"} if line % 2 else {}),
        },
    }


def _prompt(script: Script, version: int, *, outbound: bool) -> str:
    shift = 2 * version
    common = [COMMON_RULES[(shift + nth) % len(COMMON_RULES)] for nth in range(_RULES_PER_VERSION + version)]
    rules = [
        rule.replace("{amount}", SLOTS[script.language]["amount"][version]) for rule in script.rules
    ] + common
    numbered = "\n".join(f"{number}. {rule}" for number, rule in enumerate(rules, start=1))
    aim = (
        "You place the call, so say at once who is calling and why." if outbound else "The caller rings you."
    )
    return (
        f"{script.role}\n\n{aim}\n\n# Rules\n{numbered}\n\n"
        f"# Tool\nUse `{script.tool[0]}` to act; the caller must have said yes to: {script.tool[2]}.\n"
        f"Your first words are part of the configuration. You speak for {script.business} and for no one else."
    )


def _tools(script: Script, version: int) -> list[dict[str, Any]]:
    def tool(name: str, description: str, parameter: str) -> dict[str, Any]:
        return {
            "type": "function",
            "function": {
                "name": name,
                "description": description,
                "parameters": {
                    "type": "object",
                    "properties": {parameter: {"type": "string"}},
                    "required": [parameter],
                },
            },
        }

    transfer = tool("transfer_call", "Passes the call to a colleague", "reason")
    return [tool(*script.tool)] if version == 0 else [tool(*script.tool), transfer]


def _transcriber(script: Script, line: int, credential_id: str | None) -> dict[str, Any]:
    if line % 5 == 3:
        locale = {"en": "en-US", "es": "es-ES", "de": "de-DE"}[script.language]
        return {"provider": "azure", "credential_id": credential_id, "languages": [locale]}
    return {
        "provider": "deepgram",
        "credential_id": credential_id,
        "model": ("nova-2-phonecall", "nova-2", "nova-2-conversationalai")[line % 3],
        "language": script.language,
        "keywords": [script.business.split()[0]],
    }


def _webhooks(seed: int, line: int) -> list[dict[str, Any]]:
    # Tests search exports and logs for this prefix, because webhook headers hold secrets.
    secret = f"emulated-secret-{random_number(seed, f'webhook {line}'):016x}"
    return [
        {
            "events": list(_EVENTS[: 1 + line % len(_EVENTS)]),
            "filter": None,
            "url": f"https://hooks.example.com/voiceos/{line}",
            "method": "POST",
            "headers": {"x-hook-token": secret},
        }
    ]
