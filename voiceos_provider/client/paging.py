"""Which page comes next, and when is it enough? No I/O."""

from __future__ import annotations

import logging

from voiceos_provider.client.pages import RawPage
from voiceos_provider.client.requests import Listing, Request
from voiceos_provider.client.seen_ids import Seen
from voiceos_provider.exceptions import VoiceOSContractError

log = logging.getLogger(__name__)


class PageWalk:
    """The numbers of the pages to ask for, one after the other, by what the last one said.

    Ends on a false flag, on an empty page, and on a page that brings no new id: a server that repeats its last
    page must not be asked for ever. A short page ends nothing, for a server may clamp the page size.
    """

    def __init__(self, listing: Listing, *, max_pages: int) -> None:
        self._listing = listing
        self._max_pages = max_pages
        self._seen = Seen()
        self._index: int | None = 1

    @property
    def request(self) -> Request | None:
        """The next page to ask for; None at the end."""
        return None if self._index is None else self._listing.page(self._index)

    def accept(self, page: RawPage) -> None:
        """Take notice of the page that was asked for.

        :raises VoiceOSContractError: if there is still more after the highest page number allowed
        """
        assert self._index is not None
        news = self._seen.add(page.keys)
        if page.has_more and page.items and not news:
            log.warning(
                "%s: page %d says that more follows, but repeats what was listed.", self.request, self._index
            )
        if page.has_more is False or not news:
            self._index = None
        elif self._index >= self._max_pages:
            raise VoiceOSContractError(
                f"{self.request}: page {self._index:,} still says that more follows; the listing has no end. "
                "Ask for a shorter interval."
            )
        else:
            self._index += 1
