"""Is something in any text of a column? Asked of all its bytes at once, for mostly it is not."""

from __future__ import annotations

import pyarrow as pa


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
