"""Is something in any text of a column? Asked of all of it at once, for mostly it is not."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from voiceos_provider.transform.secrets import IN_URLS_WITH_MORE, without_secrets


def may_hold(texts: pa.Array, wanted: bytes) -> bool:
    """Whether a text of the column may hold these bytes.

    It may also be that a text ends and the next one begins with parts of them, or that they belong to a text beside
    those that the array shows; so True only says that it is worth a look at each text.
    """
    buffer = texts.buffers()[2]
    if buffer is None:
        return False
    data = buffer.to_pybytes()
    return wanted[-1:] in data and wanted in data  # one byte is found ten times as fast


def without_secret_urls(texts: pa.Array) -> dict[int, str]:
    """Those of the texts that hold secrets in their URLs, by their positions, without them."""
    if not may_hold(texts, b"://"):
        return {}
    found = np.flatnonzero(pc.fill_null(pc.match_substring_regex(texts, IN_URLS_WITH_MORE), False)).tolist()
    looked_at = ((at, texts[at].as_py()) for at in found)
    return {at: safe for at, text in looked_at if (safe := without_secrets(text)) != text}
