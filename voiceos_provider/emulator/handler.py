"""Handler that computes the response to a request, without sockets and without waiting."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from http.client import responses
from secrets import compare_digest
from urllib.parse import unquote

from voiceos_provider.emulator.faults import Endpoint, Fault, Schedule
from voiceos_provider.emulator.http_messages import Request, Response, json_response
from voiceos_provider.emulator.listing import Listing
from voiceos_provider.emulator.page import page_body
from voiceos_provider.emulator.query import InvalidQuery, ListQuery, parse_query
from voiceos_provider.emulator.recordings import (
    is_valid,
    link_expiry,
    recording,
    refused_link,
    signed_link,
)
from voiceos_provider.emulator.replicas import Replicas, Snapshot
from voiceos_provider.emulator.server_model import ServerModel
from voiceos_provider.emulator.timestamps import MICROSECOND, to_microseconds
from voiceos_provider.emulator.world import World

_NOT_FOUND = json_response(404, {"detail": "Not Found"})
_GZIP = ("Content-Encoding", "gzip")
_ACCEPTS_GZIP = re.compile(r"(?<![\w-])gzip(?![\w-])(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Handler:
    """API over a world, with the faults that are scheduled."""

    world: World
    token: str
    clock: Callable[[], datetime]
    model: ServerModel
    listing: Listing
    replicas: Replicas
    gzip: bool
    schedule: Schedule
    before_list: Callable[[int], None]
    conversation_statuses: Mapping[str, int]
    """Status of the response to a request for one conversation, by its id."""

    def __call__(self, request: Request) -> Response:
        """Return the response to one request."""
        match unquote(request.path).split("/")[1:]:
            case [""]:
                return _health(request)
            case ["conversations"]:
                return self._with_faults(request, "list", "")
            case ["conversations", id] if id:
                return self._with_faults(request, "conversation", id)
            case ["conversations", id, "recording"] if id:
                return self._with_faults(request, "recording", id)
            case ["recordings", name] if name.endswith(".wav"):
                return self._with_faults(request, "audio", name.removesuffix(".wav"))
            case ["conversations", *_, ""]:
                return _without_slash(request)
            case _:
                return _NOT_FOUND

    def _with_faults(self, request: Request, endpoint: Endpoint, id: str) -> Response:
        if request.method != "GET":
            return _method_not_allowed(request)
        nth = self.schedule.count(endpoint)
        earlier = None
        if endpoint == "list":
            if self.model.has_more == "stale_total":
                earlier = self.replicas.snapshot(nth)
            self.before_list(nth)
        faults = self.schedule.due(endpoint, nth)
        response = next((fault.instead for fault in faults if fault.instead is not None), None)
        if response is None:
            response = self._correct_response(request, endpoint, id, nth, earlier, faults)
        if any(fault.half_gzip for fault in faults):
            whole = _gzipped(response.body)
            response = replace(response, body=whole[: len(whole) // 2]).with_headers(_GZIP)
        elif self.gzip and _accepts_gzip(request) and _GZIP not in response.headers:
            response = replace(response, body=_gzipped(response.body)).with_headers(
                _GZIP, ("Vary", "Accept-Encoding")
            )
        for fault in faults:
            response = replace(response, delivery=response.delivery | fault.delivery)
        return response

    def _correct_response(
        self,
        request: Request,
        endpoint: Endpoint,
        id: str,
        nth: int,
        earlier: Snapshot | None,
        faults: Sequence[Fault],
    ) -> Response:
        if endpoint == "audio":  # the link authorizes, not the token
            return self._audio(request, id)
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        match endpoint:
            case "list":
                try:
                    query = parse_query(request.query, first_index=self.model.first_index)
                except InvalidQuery as invalid:
                    return json_response(422, {"detail": invalid.detail})
                return self._page(query, nth, self.replicas.snapshot(nth), earlier, faults)
            case "conversation":
                return self._conversation(id, to_microseconds(self.clock()))
            case "recording":
                return self._link(request, id, faults)

    def _link(self, request: Request, id: str, faults: Sequence[Fault]) -> Response:
        now = self.clock()
        if not self.world.is_recorded(id, now=now):
            return _NOT_FOUND
        is_expired = any(fault.misreading == "expired_link" for fault in faults)
        url = signed_link(
            f"http://{request.headers.get('host', 'localhost')}",
            id,
            seed=self.world.seed,
            expires=link_expiry(now, self.model.link_lasts, is_expired=is_expired),
        )
        return json_response(200, {"recording_url": url})

    def _audio(self, request: Request, id: str) -> Response:
        now = self.clock()
        if not is_valid(request, id, seed=self.world.seed, now=now):
            return refused_link()
        if not self.world.is_recorded(id, now=now):  # deleted since
            return Response(
                status=404, body=b"<Error><Code>NoSuchKey</Code></Error>", content_type="application/xml"
            )
        body = recording(id, seed=self.world.seed, size=self.model.recording_bytes)
        return Response(status=200, body=body, content_type="audio/wav")

    def _refusal(self, request: Request) -> Response | None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        challenge = ("WWW-Authenticate", "Bearer")
        if scheme.lower() != "bearer" or not token:
            return json_response(401, {"detail": "Not authenticated"}, challenge)
        if not compare_digest(token.strip().encode(), self.token.encode()):
            return json_response(401, {"detail": "Invalid token"}, challenge)
        return None

    def _page(
        self,
        query: ListQuery,
        nth: int,
        snapshot: Snapshot,
        earlier: Snapshot | None,
        faults: Sequence[Fault],
    ) -> Response:
        misreadings = {fault.misreading for fault in faults}
        if "ignore_window" in misreadings:
            query = ListQuery(index=query.index, limit=query.limit)
        if "created_after" in misreadings:
            query = replace(query, created_after=None)
        if "created_before" in misreadings:
            query = replace(query, created_before=None)
        refusal = self._window_refusal(query, snapshot.now)
        if refusal is not None:
            return refusal
        selection = self.listing.select(snapshot.population, query, now=snapshot.now, nth=nth)
        limit = self.model.page_size(query.limit, total=selection.total)
        number = query.index + 1 - self.model.first_index
        if "repeat_page" in misreadings:
            number = max(1, number - 1)
        if "clamp_index" in misreadings:
            number = min(number, selection.last_page(limit))

        positions = selection.page(number, limit)
        stale_total = None
        if earlier is not None:
            stale_total = self.listing.select(earlier.population, query, now=earlier.now, nth=nth).total
        body = page_body(
            self.model,
            self.world.write(snapshot.population, positions, now=snapshot.now),
            selection=selection,
            number=number,
            requested_limit=query.limit,
            limit=limit,
            stale_total=stale_total,
            faults=faults,
        )
        return Response(status=200, body=body)

    def _window_refusal(self, query: ListQuery, now: int) -> Response | None:
        longest = self.model.max_window
        if longest is None or query.created_after is None:
            return None
        end = now if query.created_before is None else query.created_before.time
        if (end - query.created_after.time) * MICROSECOND <= longest:
            return None
        if self.model.max_window_status == 504:
            return Response(status=504, content_type="text/html", body=b"<h1>504 Gateway Time-out</h1>\n")
        detail = f"created_before - created_after must not exceed {_duration(longest)}"
        return json_response(422, {"detail": detail})

    def _conversation(self, id: str, now: int) -> Response:
        status = self.conversation_statuses.get(id)
        if status is not None:
            return _error(status)
        row = self.world.row(id)
        if row is None or not self.listing.is_visible(int(row.created[0]), now=now):
            return _NOT_FOUND
        return Response(status=200, body=self.world.write(row, slice(None), now=now)[0])


def _error(status: int) -> Response:
    reason = responses.get(status, "Error")
    if status >= 500:
        return Response(status=status, body=reason.encode(), content_type="text/plain; charset=utf-8")
    return json_response(status, {"detail": reason})


def _duration(duration: timedelta) -> str:
    for name, unit in (("days", timedelta(days=1)), ("hours", timedelta(hours=1))):
        if not duration % unit:
            return f"{duration // unit} {name}"
    return f"{duration.total_seconds():g} seconds"


def _health(request: Request) -> Response:
    return json_response(200, {"status": "ok"}) if request.method == "GET" else _method_not_allowed(request)


def _method_not_allowed(request: Request) -> Response:
    response = json_response(405, {"detail": "Method Not Allowed"}, ("Allow", "GET"))
    # A body in the response to HEAD would be read as the start of the next response on the connection.
    return replace(response, body=b"") if request.method == "HEAD" else response


def _without_slash(request: Request) -> Response:
    query = f"?{request.query_string}" if request.query_string else ""
    location = f"http://{request.headers.get('host', 'localhost')}{request.path.rstrip('/')}{query}"
    return Response(status=307, headers=(("Location", location),))


def _accepts_gzip(request: Request) -> bool:
    return bool(_ACCEPTS_GZIP.search(request.headers.get("accept-encoding", "")))


def _gzipped(body: bytes) -> bytes:
    return zlib.compress(body, 1, wbits=31)
