"""Log lines of the HTTP libraries that are dropped because they show URLs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import httpx

_LOGGERS = ("httpx", *(f"httpcore.{part}" for part in ("connection", "http11", "proxy", "socks")))
_hidden_hosts: set[str] = set()
_all_hidden: ContextVar[bool] = ContextVar("voiceos_http_log_hidden", default=False)


def hide_urls_of(base_url: str) -> None:
    """Drop httpx's lines about a host: at INFO they show every URL with its query. Other hosts' lines stay."""
    _hidden_hosts.add(httpx.URL(base_url).host)
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_is_shown)


@contextmanager
def no_http_log() -> Iterator[None]:
    """Drop all lines of this thread, also those at DEBUG, which show the URLs of redirects."""
    token = _all_hidden.set(True)
    try:
        yield
    finally:
        _all_hidden.reset(token)


def _is_shown(record: logging.LogRecord) -> bool:
    arguments = record.args if isinstance(record.args, tuple) else ()
    return not _all_hidden.get() and not any(
        isinstance(item, httpx.URL) and item.host in _hidden_hosts for item in arguments
    )
