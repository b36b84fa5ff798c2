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
from voiceos_provider.extract.prefetch import Channel

log = logging.getLogger(__name__)

_MAX_ATTEMPTS = 2
OUTAGE = 10
"""Conversations in a row that the server fails to return (5xx), after which no more are requested."""

GONE = (404, 410)
NOT_OF_ONE_CONVERSATION = (None, 401, 429)
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
    channel: Channel[tuple[str, RawPage]] = Channel(max_concurrency, client.sleep)
    failures = 0

    def work() -> None:
        nonlocal failures
        while True:
            with taking:
                if not remaining or failures >= OUTAGE:
                    return
                id_ = remaining.pop()
            with limiter.slot(lambda: channel.closed):
                page, failed = read_one(client, id_, sleep=channel.sleep)
                with taking:
                    failures = failures + 1 if failed else 0
                    if failures == OUTAGE and remaining:
                        log.warning(
                            "%d conversations in a row cannot be read; %d more are not requested and stay pending.",
                            OUTAGE,
                            len(remaining),
                        )
                channel.send((id_, page))

    return channel.run(work)


def read_one(client: VoiceOSClient, id_: str, *, sleep: Callable[[float], None]) -> tuple[RawPage, bool]:
    """Return a page of one conversation, and whether the server failed (5xx).

    The page is empty if the conversation does not exist any more. One that the server cannot return, for example with
    status 403 or 500, is `unreadable` on it.

    :raises VoiceOSAPIError: if no other conversation could be read either
    """
    # Not by the rate limiter that the workers share: it would take several failures for an outage of the server.
    retry = replace(client.config.retry, max_attempts=_MAX_ATTEMPTS)
    try:
        return client.send(one_conversation(id_), parse_one, sleep=sleep, retry=retry), False
    except VoiceOSAPIError as error:
        if error.status_code in NOT_OF_ONE_CONVERSATION:
            raise
        # Without the API's own explanation, as from a gateway while the API is deployed, it says nothing of one.
        if error.status_code in GONE and error.detail:
            return RawPage((), (), False, requests=0), False
        log.warning("Cannot read conversation %s; it stays pending. %s", id_, error)
        return RawPage((), (), False, requests=0, unreadable=(id_,)), error.retryable
