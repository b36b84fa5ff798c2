"""Conversations requested by their ids; one that cannot be read does not fail the others."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Generator, Iterable
from dataclasses import replace

from voiceos_provider.client import RawPage, VoiceOSClient
from voiceos_provider.client.pages import parse_one
from voiceos_provider.client.requests import one_conversation
from voiceos_provider.exceptions import VoiceOSAPIError
from voiceos_provider.extract.prefetch import Channel, prefetch

log = logging.getLogger(__name__)

_MAX_ATTEMPTS = 2
_OUTAGE = 10
"""Conversations in a row that the server fails to return (5xx), after which no more are requested."""

_GONE = (404, 410)
_NOT_OF_ONE_CONVERSATION = (None, 401, 429)
"""Statuses that say something of the server or the token; None without a response."""


def read_each(
    client: VoiceOSClient, ids: Iterable[str], *, max_concurrency: int
) -> Generator[tuple[str, RawPage]]:
    """Yield each of these conversations on a page of its own, in no order: see `read_one`.

    While the server fails for all of them, most are not requested: each would take a minute. They are not yielded.
    """
    remaining = list(ids)
    random.shuffle(remaining)  # those that always fail are not always the first ones
    taking = threading.Lock()
    limiter = client.rate_limiter(max_concurrency)
    failures = 0

    def work(channel: Channel[tuple[str, RawPage]]) -> None:
        nonlocal failures
        while True:
            with taking:
                if not remaining or failures >= _OUTAGE:
                    return
                id_ = remaining.pop()
            with limiter.slot(lambda: channel.closed):
                try:
                    page = _request(client, id_, sleep=channel.sleep)
                    failed = False
                except VoiceOSAPIError as error:
                    page = _page_without(id_, error)
                    failed = error.retryable
                with taking:
                    failures = failures + 1 if failed else 0
                    if failures == _OUTAGE and remaining:
                        log.warning(
                            "%d conversations in a row cannot be read; %d more are not requested and stay pending.",
                            _OUTAGE,
                            len(remaining),
                        )
                channel.send((id_, page))

    return prefetch(work, workers=max_concurrency, sleep=client.sleep)


def read_one(client: VoiceOSClient, id_: str, *, sleep: Callable[[float], None]) -> RawPage:
    """Return a page of one conversation; an empty one if the conversation does not exist any more.

    A conversation that the server cannot return, for example with status 403 or 500, is `unreadable` on the page.

    :raises VoiceOSAPIError: if no other conversation could be read either
    """
    try:
        return _request(client, id_, sleep=sleep)
    except VoiceOSAPIError as error:
        return _page_without(id_, error)


def _request(client: VoiceOSClient, id_: str, *, sleep: Callable[[float], None]) -> RawPage:
    # Not by the rate limiter that the workers share: it would take several failures for an outage of the server.
    retry = replace(client.config.retry, max_attempts=_MAX_ATTEMPTS)
    return client.send(one_conversation(id_), parse_one, sleep=sleep, retry=retry)


def _page_without(id_: str, error: VoiceOSAPIError) -> RawPage:
    """Return the page for a conversation that was not returned.

    :raises VoiceOSAPIError: if no other conversation could be read either
    """
    if error.status_code in _NOT_OF_ONE_CONVERSATION:
        raise error
    # Without a word of the API's own, as from a gateway while the API is deployed, it says nothing of a conversation.
    if error.status_code in _GONE and error.detail:
        return RawPage((), (), False, requests=0)
    log.warning("Cannot read conversation %s; it stays pending. %s", id_, error)
    return RawPage((), (), False, requests=0, unreadable=(id_,))
