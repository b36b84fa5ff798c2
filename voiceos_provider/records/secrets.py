"""Which values look like credentials, and must not leave the decoder?"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import parse_qsl, urlencode, urlsplit

from voiceos_provider.api.values import JsonValue

MASK = "***"

_SECRET_KEY = re.compile(
    r"(^|[_\-\s.])((api|private|access|secret|signing|encryption|auth)[_\-\s]?key|(access|auth)?token|secret"
    r"|password|passwd|passphrase|pwd|authorization|bearer|credentials?|signature|sig|cookie)$",
    re.IGNORECASE,
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_HEADERS_KEY = re.compile(r"(^|[_\-\s.])headers$", re.IGNORECASE)
_URL_WITH_MORE = re.compile(r"[a-z][a-z0-9+.-]*://\S*[@?]\S*", re.IGNORECASE)


def without_secrets(value: JsonValue) -> JsonValue:
    """A copy of the value with every header, every credential and every secret part of a URL masked.

    Keys stay, so that one can see what was configured. A `credential_id` names a key and is none.
    """
    top = [_without_secret_urls(value)]
    todo: list[dict[str, JsonValue] | list[JsonValue]] = [top]
    while todo:  # and no recursion: JSON may be nested deeper than Python calls may be
        holder = todo.pop()
        for key, item in holder.items() if isinstance(holder, dict) else enumerate(holder):
            kept = _masked(key, item) if isinstance(key, str) else _without_secret_urls(item)
            if isinstance(kept, dict | list):
                kept = kept.copy()
                todo.append(kept)
            holder[key] = kept  # type: ignore[index]
    return top[0]


def _masked(key: str, value: JsonValue) -> JsonValue:
    if _is_headers(key) and value:
        return dict.fromkeys(value, MASK) if isinstance(value, dict) else MASK
    if is_secret(key):
        if isinstance(value, str) and value:
            return MASK
        if isinstance(value, list):
            return [MASK if isinstance(item, str) and item else item for item in value]
    return _without_secret_urls(value)


def _without_secret_urls(value: JsonValue) -> JsonValue:
    if isinstance(value, str) and "://" in value:
        return _URL_WITH_MORE.sub(lambda match: _safe_url(match[0]), value)
    return value


@lru_cache(maxsize=4_096)
def is_secret(key: str) -> bool:
    """Whether a key's name says that its value is a credential: `api_key`, `authToken`, `X-Secret`."""
    return bool(_SECRET_KEY.search(_CAMEL.sub("_", key)))


@lru_cache(maxsize=4_096)
def _is_headers(key: str) -> bool:
    return bool(_HEADERS_KEY.search(_CAMEL.sub("_", key)))


def _safe_url(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return MASK
    host = parts.netloc.rpartition("@")[2]
    netloc = f"{MASK}@{host}" if "@" in parts.netloc else parts.netloc
    query = parts.query
    secret = any(is_secret(name) for name, _ in parse_qsl(query, keep_blank_values=True))
    if not secret and netloc == parts.netloc:
        return url  # to put it together again could change it
    if secret:
        pairs = [(name, MASK if is_secret(name) else value) for name, value in parse_qsl(query, True)]
        query = urlencode(pairs, safe="*")
    return parts._replace(netloc=netloc, query=query).geturl()
