"""Conversations requested by their ids; one that cannot be read does not fail the others."""

from __future__ import annotations

import logging
import random
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, replace

from voiceos_provider.client import RawPage, VoiceOSClient
from voiceos_provider.client.pages import parse_one
from voiceos_provider.client.rate_limiter import RateLimiter
from voiceos_provider.client.requests import one_conversation
from voiceos_provider.exceptions import VoiceOSAPIError
from voiceos_provider.extract.workers import OUTAGE, Sleep, for_each_id

log = logging.getLogger(__name__)

_MAX_ATTEMPTS = 2


@dataclass(frozen=True, slots=True)
class ConversationRead:
    """What the request of one conversation brought.

    :param page: holds the conversation; empty if it does not exist any more. One that the server cannot return, for
        example with status 403 or 500, is `unreadable` on it.
    :param server_failed: whether a retryable error remained after all attempts
    """

    id: str
    page: RawPage
    server_failed: bool = False


def read_each(
    client: VoiceOSClient, ids: Iterable[str], *, max_concurrency: int
) -> Generator[tuple[str, RawPage]]:
    """Yield each of these conversations on a page of its own, in no order: see `read_one`.

    During an outage of the server most are not requested, and not yielded.
    """
    requested = list(ids)
    random.shuffle(requested)  # those that always fail are not always the first ones
    remaining = len(requested)

    def work(id_: str, _: RateLimiter, sleep: Sleep) -> ConversationRead:
        return read_one(client, id_, sleep=sleep)

    with closing(for_each_id(client, requested, work, max_concurrency=max_concurrency)) as outcomes:
        for outcome in outcomes:
            remaining -= 1
            yield outcome.id, outcome.page
    if remaining:
        log.warning(
            "%d conversations in a row cannot be read; %d more are not requested and stay pending.",
            OUTAGE,
            remaining,
        )


def read_one(client: VoiceOSClient, id_: str, *, sleep: Sleep) -> ConversationRead:
    """Request one conversation.

    :raises VoiceOSAPIError: if no other conversation could be read either
    """
    # Not by the rate limiter that the workers share: it would take several failures for an outage of the server.
    retry = replace(client.config.retry, max_attempts=_MAX_ATTEMPTS)
    try:
        return ConversationRead(id_, client.send(one_conversation(id_), parse_one, sleep=sleep, retry=retry))
    except VoiceOSAPIError as error:
        if error.concerns_all_requests:
            raise
        if error.is_gone:
            return ConversationRead(id_, RawPage((), (), False, requests=0))
        log.warning("Cannot read conversation %s; it stays pending. %s", id_, error)
        page = RawPage((), (), False, requests=0, unreadable=(id_,))
        return ConversationRead(id_, page, server_failed=error.retryable)
