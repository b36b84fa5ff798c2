"""Fixtures of the transform tests: a decoder, and its rows as Python values."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.decoding import Read, as_page, as_text, decoded


@pytest.fixture(scope="session", params=[as_page, as_text], ids=["fast", "fallback"])
def read(request: pytest.FixtureRequest) -> Callable[..., Read]:
    """Return a function that decodes JSON texts on the fast path or with the fallback decoder."""

    def read_items(*items: str | bytes, **options: Any) -> Read:
        return decoded(map(request.param, items), **options)

    return read_items
