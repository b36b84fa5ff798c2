"""JSON of each conversation, as bytes.

Whatever is the same for all conversations of an agent is serialized once. One conversation is then a handful of
fragments, so that a page of a hundred is written in about a millisecond.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from voiceos_provider.emulator.agents import Agent
from voiceos_provider.emulator.costs import CostWriter
from voiceos_provider.emulator.population import STATUSES, Population, ids
from voiceos_provider.emulator.rng import Integers, random_numbers
from voiceos_provider.emulator.timestamps import NEVER, SECOND
from voiceos_provider.emulator.transcripts import Transcripts

_REASONS = ("user_ended",) * 10 + ("agent_ended",) * 5 + ("unknown",)
_ENDING = [f'"ended_reason":"{reason}","cost_breakdown":'.encode() for reason in _REASONS]
_CUT_OFF = b'"ended_reason":"agent_ended","cost_breakdown":'
_NOT_ENDED = b'"ended_reason":null,"cost_breakdown":'
_, _STARTED, _ENDED = range(len(STATUSES))

_MAX_TEXTS = 127
"""As many as a column of signed bytes can number."""
_VALUES = re.compile(rb'"status":("[^"]*"),"started_at":(null|"[^"]*")')


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fragments:
    """JSON that the conversations of one agent have in common."""

    heads: tuple[str, ...]
    """From the id to `started_at`, one for each status."""
    config: bytes
    phone_call: tuple[bytes, bytes] | None
    """Text before and after the caller's number."""
    transcripts: Transcripts
    limit: int


class ConversationWriter:
    """Writer of conversations as they are at a given time."""

    def __init__(self, *, seed: int, agents: Sequence[Agent]) -> None:
        self._seed = seed
        self._fragments = [_fragments(seed, agent) for agent in agents]
        self._costs = CostWriter(seed=seed, agents=agents)

    def write(self, rows: Population, *, now: int) -> list[bytes]:
        """Return one JSON object for each row, in this order."""
        names = ids(self._seed, rows.ordinal)
        statuses = rows.statuses(now)
        started_at, ended_at = _iso_texts(rows.started), _iso_texts(rows.ended)
        costs = iter(self._costs.write(rows.take(np.flatnonzero(rows.priced <= now))))
        chances = random_numbers(self._seed, "transcript", rows.ordinal).tolist()
        callers = random_numbers(self._seed, "caller", rows.ordinal).tolist()
        written = []
        for name, which, status, begin, end, begin_at, end_at, is_priced, chance, caller in zip(
            names,
            rows.agent.tolist(),
            statuses.tolist(),
            rows.started.tolist(),
            rows.ended.tolist(),
            started_at,
            ended_at,
            (rows.priced <= now).tolist(),
            chances,
            callers,
            strict=True,
        ):
            of = self._fragments[which]
            messages, ending, times = b"", _NOT_ENDED, 'null,"ended_at":null'
            if status == _ENDED:
                times = f'"{begin_at}+00:00","ended_at":"{end_at}+00:00"'
                messages = of.transcripts.whole(chance, lasted=end - begin)
                ending = _CUT_OFF if end - begin >= of.limit else _ENDING[caller & 15]
            elif status == _STARTED:
                times = f'"{begin_at}+00:00","ended_at":null'
                messages = of.transcripts.so_far(chance, started=begin, ended=end, now=now)
            phone_call = b'],"phone_call":null,'
            if of.phone_call is not None:
                before, after = of.phone_call
                phone_call = b"%b+1%d55501%02d%b" % (
                    before,
                    200 + (caller >> 8) % 800,
                    (caller >> 24) % 100,
                    after,
                )
            written.append(
                b"".join(
                    (
                        f'{{"uri":"/conversations/{name}{of.heads[status]}{times}'.encode(),
                        of.config,
                        messages,
                        phone_call,
                        ending,
                        f'{next(costs) if is_priced else "null"},"id":"{name}"}}'.encode(),
                    )
                )
            )
        return written


def _fragments(seed: int, agent: Agent) -> _Fragments:
    config = json.dumps(agent.config, ensure_ascii=False, separators=(",", ":"))
    limit = agent.max_duration_seconds
    return _Fragments(
        heads=tuple(
            f'","type":"{agent.kind}","account_id":"{agent.account_id}","status":"{status}","started_at":'
            for status in STATUSES
        ),
        config=f',"agent_config":{config},"agent_id":{json.dumps(agent.agent_id)},"messages":['.encode(),
        phone_call=_phone_call(agent),
        transcripts=Transcripts(seed=seed, agent=agent),
        limit=NEVER if limit is None else limit * SECOND,
    )


def _phone_call(agent: Agent) -> tuple[bytes, bytes] | None:
    if agent.kind == "web_call":
        return None
    own, before = agent.phone_number, '],"phone_call":{"provider":"twilio",'
    if agent.kind == "inbound_phone_call":
        return f'{before}"to_number":"{own}","from_number":"'.encode(), b'"},'
    return f'{before}"to_number":"'.encode(), f'","from_number":"{own}"}},'.encode()


def _iso_texts(times: Integers) -> list[str]:
    """Return ISO 8601 text without an offset; whole seconds have no fraction, as in `datetime.isoformat`."""
    texts: list[str] = np.datetime_as_string(times.view("datetime64[us]")).tolist()
    return [text.removesuffix(".000000") for text in texts]


class Overrides:
    """Undocumented statuses and texts for `started_at`; number 0 stands for no override."""

    def __init__(self) -> None:
        self._statuses: list[str] = []
        self._starts: list[str] = []

    def status_number(self, status: str | None) -> int:
        """Return the number of a status."""
        return _number(self._statuses, status)

    def start_number(self, text: str | None) -> int:
        """Return the number of a text for `started_at`."""
        return _number(self._starts, text)

    def apply(self, rows: Population, written: list[bytes]) -> list[bytes]:
        """Return the JSON of these rows with their overrides."""
        overridden = (rows.status_override != 0) | (rows.start_override != 0)
        for position in np.flatnonzero(overridden).tolist():
            written[position] = self._replace(
                written[position], int(rows.status_override[position]), int(rows.start_override[position])
            )
        return written

    def _replace(self, conversation: bytes, status: int, start: int) -> bytes:
        def values(found: re.Match[bytes]) -> bytes:
            shown_status, shown_start = found.groups()
            if status:
                shown_status = json.dumps(self._statuses[status - 1]).encode()
            # A conversation that has not started has no time yet.
            if start and shown_start != b"null":
                shown_start = json.dumps(self._starts[start - 1]).encode()
            return b'"status":%b,"started_at":%b' % (shown_status, shown_start)

        # The status precedes all free text.
        return _VALUES.sub(values, conversation, count=1)


def _number(texts: list[str], text: str | None) -> int:
    if text is None:
        return 0
    if text not in texts:
        if len(texts) == _MAX_TEXTS:
            raise ValueError(f"A world holds at most {_MAX_TEXTS} different overrides of one kind.")
        texts.append(text)
    return texts.index(text) + 1
