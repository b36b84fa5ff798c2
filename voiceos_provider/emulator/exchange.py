"""What is asked of the API and what it answers, as values that both doors understand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from http.client import responses
from typing import Any
from urllib.parse import parse_qsl

from voiceos_provider.emulator.delivery import Delivery


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request, its header names in lower case."""

    method: str
    path: str
    """As sent, percent-encoded."""
    query_string: str
    headers: Mapping[str, str]

    @property
    def query(self) -> dict[str, str]:
        """The parameters, decoded; of one that was sent twice, the last."""
        return dict(parse_qsl(self.query_string, keep_blank_values=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRequest:
    """What somebody asked, and with which status it was answered."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer, and how its bytes make their way."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    """Those beside the content's type and length."""
    delivery: Delivery = Delivery()

    @property
    def all_headers(self) -> list[tuple[str, str]]:
        """Every header, as sent."""
        return [
            ("Content-Type", self.content_type),
            ("Content-Length", str(len(self.body))),
            *self.headers,
        ]

    @property
    def head(self) -> bytes:
        """The status line and the headers, as HTTP/1.1 spells them."""
        reason = responses.get(self.status, "")
        lines = [
            f"HTTP/1.1 {self.status} {reason}",
            *(f"{name}: {value}" for name, value in self.all_headers),
        ]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def with_headers(self, *headers: tuple[str, str]) -> Answer:
        """The same answer with these headers after its own."""
        return replace(self, headers=self.headers + headers)


def json_answer(status: int, content: Any, *headers: tuple[str, str]) -> Answer:
    """An answer in JSON as compact as the API's."""
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    return Answer(status=status, body=body, headers=headers)
