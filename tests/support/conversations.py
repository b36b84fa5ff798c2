"""Hand-written conversations as the API sends them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

_EXAMPLES = Path(__file__).parents[1] / "contract" / "data" / "examples"
_ENDED = json.loads((_EXAMPLES / "conversation_ended_inbound.json").read_text())


def conversation(
    id_: str, *, said: tuple[str, ...] = ("Hello.", "Good bye."), **fields: Any
) -> dict[str, Any]:
    """Return an ended call of `DAY` with these messages; `fields` replace others."""
    made: dict[str, Any] = copy.deepcopy(_ENDED)
    made |= {"id": id_, "started_at": "2026-11-01T10:00:00.000001Z", "ended_at": "2026-11-01T10:01:30Z"}
    made["messages"] = [
        {"role": ("agent", "user")[at % 2], "content": content} for at, content in enumerate(said)
    ]
    return made | fields
