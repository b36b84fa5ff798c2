"""What every test of the records needs: a decoder, and rows as Python sees them."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.decoding import Read, as_page, as_text, decoded


@pytest.fixture(scope="session", params=[as_page, as_text], ids=["fast", "fallback"])
def read(request: pytest.FixtureRequest) -> Callable[..., Read]:
    """Decode conversations, given as JSON text, on either way."""

    def read_items(*items: str | bytes, **options: Any) -> Read:
        return decoded(map(request.param, items), **options)

    return read_items
