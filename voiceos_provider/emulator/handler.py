"""What does the API answer to a request? The one handler behind both doors: no sockets, no waiting."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from secrets import compare_digest
from urllib.parse import unquote

import numpy as np

from voiceos_provider.emulator.exchange import Answer, Request, json_answer
from voiceos_provider.emulator.faults import Fault
from voiceos_provider.emulator.instants import to_microseconds
from voiceos_provider.emulator.listing import Listing
from voiceos_provider.emulator.query import InvalidQuery, ListQuery, read
from voiceos_provider.emulator.schedule import Endpoint, Schedule
from voiceos_provider.emulator.world import World

_NOT_FOUND = json_answer(404, {"detail": "Not Found"})
_GZIP = ("Content-Encoding", "gzip")
_ACCEPTS_GZIP = re.compile(r"(?<![\w-])gzip(?![\w-])(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Handler:
    """Answers from a world, unless something is scheduled to go wrong."""

    world: World
    token: str
    clock: Callable[[], datetime]
    listing: Listing
    max_limit: int | None
    gzip: bool
    schedule: Schedule
    before_list: Callable[[int], None]

    def __call__(self, request: Request) -> Answer:
        """Answer one request."""
        match unquote(request.path).split("/")[1:]:
            case [""]:
                return _health(request)
            case ["conversations"]:
                return self._with_faults(request, "list", "")
            case ["conversations", id] if id:
                return self._with_faults(request, "conversation", id)
            case ["conversations", id, "recording"] if id:
                return self._with_faults(request, "recording", id)
            case ["conversations", *_, ""]:
                return _without_slash(request)
            case _:
                return _NOT_FOUND

    def _with_faults(self, request: Request, endpoint: Endpoint, id: str) -> Answer:
        if request.method != "GET":
            return _method_not_allowed(request)
        nth = self.schedule.count(endpoint)
        if endpoint == "list":
            self.before_list(nth)
        faults = self.schedule.due(endpoint, nth)
        answer = next((fault.instead for fault in faults if fault.instead is not None), None)
        if answer is None:
            answer = self._truth(request, endpoint, id, nth, faults)
        if any(fault.half_gzip for fault in faults):
            whole = _gzipped(answer.body)
            answer = replace(answer, body=whole[: len(whole) // 2]).with_headers(_GZIP)
        elif self.gzip and _accepts_gzip(request) and _GZIP not in answer.headers:
            answer = replace(answer, body=_gzipped(answer.body)).with_headers(
                _GZIP, ("Vary", "Accept-Encoding")
            )
        for fault in faults:
            answer = replace(answer, delivery=answer.delivery | fault.delivery)
        return answer

    def _truth(
        self, request: Request, endpoint: Endpoint, id: str, nth: int, faults: Sequence[Fault]
    ) -> Answer:
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        now = self.clock()
        match endpoint:
            case "list":
                try:
                    return self._page(read(request.query), nth, faults, to_microseconds(now))
                except InvalidQuery as invalid:
                    return json_answer(422, {"detail": invalid.detail})
            case "conversation":
                return self._conversation(id, to_microseconds(now))
            case "recording":
                url = self.world.recording_url(id, now=now)
                return _NOT_FOUND if url is None else json_answer(200, {"recording_url": url})

    def _refusal(self, request: Request) -> Answer | None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        challenge = ("WWW-Authenticate", "Bearer")
        if scheme.lower() != "bearer" or not token:
            return json_answer(401, {"detail": "Not authenticated"}, challenge)
        if not compare_digest(token.strip().encode(), self.token.encode()):
            return json_answer(401, {"detail": "Invalid token"}, challenge)
        return None

    def _page(self, query: ListQuery, nth: int, faults: Sequence[Fault], now: int) -> Answer:
        misreadings = {fault.misreading for fault in faults}
        if "ignore_window" in misreadings:
            query = ListQuery(index=query.index, limit=query.limit)
        if "created_after" in misreadings:
            query = replace(query, created_after=None)
        if "created_before" in misreadings:
            query = replace(query, created_before=None)
        population = self.world.population
        selection = self.listing.select(population, query, now=now, nth=nth)
        limit = query.limit if self.max_limit is None else min(query.limit, self.max_limit)
        index = query.index
        if "repeat_page" in misreadings:
            index = max(1, index - 1)
        if "clamp_index" in misreadings:
            index = min(index, selection.last_index(limit))

        items = self.world.write(population, selection.page(index, limit), now=now)
        misshapes = {fault.misshape: fault for fault in faults}
        about = [b'"index":%d' % index]
        name = b"has_next" if "flag_legacy" in misshapes else b"has_more"
        flag = b"true" if selection.has_more(index, limit) else b"false"
        if "flag_integer" in misshapes:
            value = misshapes["flag_integer"].flag
            flag = b"%d" % (selection.total if value is None else value)
        if "flag_missing" not in misshapes:
            about.append(b'"%b":%b' % (name, flag))
        listed = () if "items_missing" in misshapes else (b'"items":[', b",".join(items), b"],")
        return Answer(status=200, body=b"".join((b"{", *listed, b",".join(about), b"}")))

    def _conversation(self, id: str, now: int) -> Answer:
        population = self.world.population
        position = self.world.find(population, id)
        if position is None or not self.listing.is_visible(population, position, now=now):
            return _NOT_FOUND
        return Answer(status=200, body=self.world.write(population, np.array([position]), now=now)[0])


def _health(request: Request) -> Answer:
    return json_answer(200, {"status": "ok"}) if request.method == "GET" else _method_not_allowed(request)


def _method_not_allowed(request: Request) -> Answer:
    answer = json_answer(405, {"detail": "Method Not Allowed"}, ("Allow", "GET"))
    # An answer to HEAD has no body, or the next answer on the connection would begin with it.
    return replace(answer, body=b"") if request.method == "HEAD" else answer


def _without_slash(request: Request) -> Answer:
    query = f"?{request.query_string}" if request.query_string else ""
    location = f"http://{request.headers.get('host', 'localhost')}{request.path.rstrip('/')}{query}"
    return Answer(status=307, headers=(("Location", location),))


def _accepts_gzip(request: Request) -> bool:
    return bool(_ACCEPTS_GZIP.search(request.headers.get("accept-encoding", "")))


def _gzipped(body: bytes) -> bytes:
    return zlib.compress(body, 1, wbits=31)
