"""Values that a test gives to single conversations, and that their times do not explain.

A population holds small numbers; the texts behind them are here, so that an ordinary page costs two array checks.
"""

from __future__ import annotations

import json
import re

import numpy as np

from voiceos_provider.emulator.population import Population

_MAX_TEXTS = 127
"""As many as a column of signed bytes can number."""
_VALUES = re.compile(rb'"status":("[^"]*"),"started_at":(null|"[^"]*")')


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
            # What has not started has no time yet, whatever it will be.
            if start and shown_start != b"null":
                shown_start = json.dumps(self._starts[start - 1]).encode()
            return b'"status":%b,"started_at":%b' % (shown_status, shown_start)

        # The status precedes everything that holds free text.
        return _VALUES.sub(values, conversation, count=1)


def _number(texts: list[str], text: str | None) -> int:
    if text is None:
        return 0
    if text not in texts:
        if len(texts) == _MAX_TEXTS:
            raise ValueError(f"A world holds at most {_MAX_TEXTS} different overrides of one kind.")
        texts.append(text)
    return texts.index(text) + 1
