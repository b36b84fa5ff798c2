"""Conversations requested by their ids; one that cannot be read does not fail the others."""

from __future__ import annotations

import logging
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
_GONE = (404, 410)
_NOT_OF_ONE_CONVERSATION = (None, 401, 429)
"""Statuses that say something of the server or the token; None without a response."""


def read_each(
    client: VoiceOSClient, ids: Iterable[str], *, max_concurrency: int
) -> Generator[tuple[str, RawPage]]:
    """Yield each of these conversations on a page of its own, in no order: see `read_one`."""
    remaining = iter(ids)
    taking = threading.Lock()
    limiter = client.rate_limiter(max_concurrency)

    def work(channel: Channel[tuple[str, RawPage]]) -> None:
        while True:
            with taking:
                id_ = next(remaining, None)
            if id_ is None:
                return
            with limiter.slot(lambda: channel.closed):
                channel.send((id_, read_one(client, id_, sleep=channel.sleep)))

    return prefetch(work, workers=max_concurrency, sleep=client.sleep)


def read_one(client: VoiceOSClient, id_: str, *, sleep: Callable[[float], None]) -> RawPage:
    """Return a page of one conversation; an empty one if the conversation does not exist any more.

    A conversation that the server cannot return, for example with status 403 or 500, is `unreadable` on the page. It
    does not pass the rate limiter that the workers share, which would take several of them for an outage.

    :raises VoiceOSAPIError: if no other conversation could be read either
    """
    retry = replace(client.config.retry, max_attempts=_MAX_ATTEMPTS)
    try:
        return client.send(one_conversation(id_), parse_one, sleep=sleep, retry=retry)
    except VoiceOSAPIError as error:
        if error.status_code in _NOT_OF_ONE_CONVERSATION:
            raise
        if error.status_code in _GONE:
            return RawPage((), (), False, requests=0)
        log.warning("Cannot read conversation %s; it stays pending. %s", id_, error)
        return RawPage((), (), False, requests=0, unreadable=(id_,))
