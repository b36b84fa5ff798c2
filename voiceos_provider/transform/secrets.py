"""Which values look like credentials, and must not leave the decoder?"""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache
from urllib.parse import parse_qsl, urlencode, urlsplit

from voiceos_provider.client.values import JsonValue

MASK = "***"

_SECRET_KEY = re.compile(
    r"(^|[_\-\s.])((api|private|access|secret|signing|encryption|auth)[_\-\s]?keys?|(access|auth)?token|secrets?"
    r"|password|passwd|passphrase|pass|pwd|auth|authorization|bearer|jwt|credentials?|signature|sig|cookie)$",
    re.IGNORECASE,
)
# A figure may be called price_per_token, but none is called password.
_SECRET_NUMBER_KEY = re.compile(
    r"(^|[_\-\s.])(password|passwd|passphrase|pwd|secret|api[_\-\s]?key)$", re.IGNORECASE
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_HEADERS_KEY = re.compile(r"(^|[_\-\s.])headers$", re.IGNORECASE)
_URL_WITH_MORE = re.compile(r"[a-z][a-z0-9+.-]*://\S*[@?#]\S*", re.IGNORECASE)

IN_URLS_WITH_MORE = r"://\S*[@?#]"
"""What every text holds of whose URLs anything is masked, and few others do. RE2 takes fewer characters for space than
Python does, and so finds it too."""


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
        if (
            isinstance(value, int | Decimal)
            and not isinstance(value, bool)
            and _SECRET_NUMBER_KEY.search(key)
        ):
            return MASK
        if isinstance(value, dict) and "type" not in value:  # else a parameter of a tool is declared there
            return {name: MASK if isinstance(item, str) and item else item for name, item in value.items()}
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
    query, fragment = _safe_pairs(parts.query), _safe_pairs(parts.fragment)
    if (netloc, query, fragment) == (parts.netloc, parts.query, parts.fragment):
        return url  # to put it together again could change it
    return parts._replace(netloc=netloc, query=query, fragment=fragment).geturl()


def _safe_pairs(text: str) -> str:
    pairs = parse_qsl(text, keep_blank_values=True)
    if not any(is_secret(name) for name, _ in pairs):
        return text
    return urlencode([(name, MASK if is_secret(name) else value) for name, value in pairs], safe="*")
