"""Which values look like credentials, and must not leave the decoder?"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlencode, urlsplit

from voiceos_provider.api.values import JsonValue

MASK = "***"

_SECRET_KEY = re.compile(
    r"(^|[_\-\s.])(api[_\-\s]?key|apikey|token|secret|password|passwd|pwd|authorization|bearer|private[_\-\s]?key"
    r"|access[_\-\s]?key|client[_\-\s]?secret|credentials?|signature|sig|cookie)$",
    re.IGNORECASE,
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_URL_WITH_MORE = re.compile(r"https?://\S*[@?]\S*", re.IGNORECASE)


def without_secrets(value: JsonValue) -> JsonValue:
    """The same value with every header, every credential and every secret part of a URL masked.

    Keys stay, so that one can see what was configured. A `credential_id` names a key and is none.
    """
    if isinstance(value, dict):
        return {key: _masked(key, item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_secrets(item) for item in value]
    if isinstance(value, str) and "://" in value:
        return _URL_WITH_MORE.sub(lambda match: _safe_url(match[0]), value)
    return value


def _masked(key: str, value: JsonValue) -> JsonValue:
    if key.lower() == "headers" and isinstance(value, dict):
        return dict.fromkeys(value, MASK)
    if isinstance(value, str) and value and is_secret(key):
        return MASK
    return without_secrets(value)


def is_secret(key: str) -> bool:
    """Whether a key's name says that its value is a credential: `api_key`, `authToken`, `X-Secret`."""
    return bool(_SECRET_KEY.search(_CAMEL.sub("_", key)))


def _safe_url(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return MASK
    host = parts.netloc.rpartition("@")[2]
    netloc = f"{MASK}@{host}" if "@" in parts.netloc else parts.netloc
    query = parts.query
    if any(is_secret(name) for name, _ in parse_qsl(query, keep_blank_values=True)):
        pairs = [(name, MASK if is_secret(name) else value) for name, value in parse_qsl(query, True)]
        query = urlencode(pairs, safe="*")
    return parts._replace(netloc=netloc, query=query).geturl()
