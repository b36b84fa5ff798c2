"""Who asks what a look wants to know: a client that blocks, or one that does not."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from dataclasses import replace
from typing import Any, TypeVar

from voiceos_provider.client import AsyncVoiceOSClient, ClientConfig, Conversation, Page, VoiceOSClient
from voiceos_provider.exceptions import VoiceOSError, VoiceOSNotFoundError
from voiceos_provider.polling.queries import Ask, Look, One, Pages, Row, Rows

T = TypeVar("T")
Outcome = Rows | VoiceOSError


def look(client: VoiceOSClient, looking: Look[T]) -> T:
    """Ask what the look asks, one after the other.

    :raises VoiceOSError: what the look does not handle
    """
    listings: dict[Pages, Iterator[Page]] = {}
    outcome: Outcome = None
    try:
        while True:
            ask = _next(looking, outcome)
            try:
                if isinstance(ask, One):
                    outcome = (_row(client.get_conversation(ask.conversation_id)),)
                else:
                    if ask not in listings:
                        listings[ask] = client.list_conversations(**_arguments(ask))
                    outcome = _rows(next(listings[ask], None))
            except VoiceOSError as error:
                outcome = _refused(ask, error)
    except StopIteration as end:
        found: T = end.value
        return found


async def alook(client: AsyncVoiceOSClient, looking: Look[T]) -> T:
    """See `look`."""
    listings: dict[Pages, AsyncGenerator[Page]] = {}
    outcome: Outcome = None
    try:
        while True:
            ask = _next(looking, outcome)
            try:
                if isinstance(ask, One):
                    outcome = (_row(await client.get_conversation(ask.conversation_id)),)
                else:
                    if ask not in listings:
                        listings[ask] = client.list_conversations(**_arguments(ask))  # type: ignore[assignment]
                    outcome = _rows(await anext(listings[ask], None))
            except VoiceOSError as error:
                outcome = _refused(ask, error)
    except StopIteration as end:
        found: T = end.value
        return found
    finally:
        for listing in listings.values():
            await listing.aclose()


def remembering(looking: Look[T], answers: dict[One, Rows]) -> Look[T]:
    """The same look, which does not ask for a conversation that is among the answers, and adds those that it gets."""
    outcome: Outcome = None
    try:
        while True:
            ask = _next(looking, outcome)
            if isinstance(ask, One):
                if ask not in answers:
                    answers[ask] = yield ask
                outcome = answers[ask]
                continue
            try:
                outcome = yield ask
            except VoiceOSError as error:
                outcome = error
    except StopIteration as end:
        found: T = end.value
        return found


def patient_for(settings: ClientConfig, poke_interval: float) -> ClientConfig:
    """Try a request again for no longer than until the next look would ask it anyway."""
    retry = settings.retry
    return replace(settings, retry=replace(retry, deadline=min(retry.deadline, poke_interval)))


def _next(looking: Look[Any], outcome: Outcome) -> Ask:
    return looking.throw(outcome) if isinstance(outcome, VoiceOSError) else looking.send(outcome)


def _refused(ask: Ask, error: VoiceOSError) -> Outcome:
    return () if isinstance(ask, One) and isinstance(error, VoiceOSNotFoundError) else error


def _arguments(ask: Pages) -> dict[str, Any]:
    return {
        "status": ask.status,
        "created_after": ask.interval.created_after,
        "created_before": ask.interval.created_before,
        "page_size": ask.page_size,
    }


def _row(conversation: Conversation) -> Row:
    return Row(conversation.id, conversation.status, conversation.started_at)


def _rows(page: Page | None) -> Rows:
    if page is None:
        return None
    # One without an id is a conversation all the same, and nobody knows that it has ended.
    return (*map(_row, page.conversations), *(Row(None, None) for _ in page.rejected))
