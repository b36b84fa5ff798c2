"""What every test of the records needs: a decoder, and rows as Python sees them."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from voiceos_provider.interval import Interval
from voiceos_provider.records import Decoded, Decoder

INTERVAL = Interval(datetime(2024, 6, 3, tzinfo=UTC), datetime(2024, 6, 4, tzinfo=UTC))
EXPORTED_AT = datetime(2024, 6, 5, tzinfo=UTC)


@dataclass
class Read:
    """Rows, and what else became of some JSON."""

    rows: list[dict[str, Any]]
    decoded: Decoded


@pytest.fixture(scope="session")
def read() -> Callable[..., Read]:
    """Decode conversations, given as JSON text."""

    def read_items(*items: str | bytes) -> Read:
        raws = [msgspec.Raw(item.encode() if isinstance(item, str) else item) for item in items]
        decoded = Decoder(INTERVAL, EXPORTED_AT).decode(raws)
        decoded.batch.validate(full=True)
        return Read(decoded.batch.to_pylist(), decoded)

    return read_items
