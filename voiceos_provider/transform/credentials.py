"""Masking of credentials, which never leave the decoder.

Three rules: the name of a key (`api_key`, `headers`), the secret parts of a URL, and the well-known shapes of keys and
tokens. Every pattern is matched in linear time, because callers can put any text into a conversation.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache
from typing import Final, Literal
from urllib.parse import unquote_plus

from voiceos_provider.client.values import JsonObject, JsonValue, map_json

MASK: Final = "***"

_CREDENTIAL_NAME = re.compile(
    r"(^|[_\-\s.])((api|private|access|secret|signing|encryption|auth)[_\-\s]?keys?|(access|auth)?token|secrets?"
    r"|password|passwd|passphrase|pass|pwd|auth|authorization|bearer|jwt|credentials?|signature|sig|cookie)$",
    re.IGNORECASE,
)
# A number may be called price_per_token, but none is called password.
_NUMERIC_CREDENTIAL_NAME = re.compile(
    r"(^|[_\-\s.])(password|passwd|passphrase|pwd|secret|api[_\-\s]?key)$", re.IGNORECASE
)
_HEADERS_NAME = re.compile(r"(^|[_\-\s.])headers$", re.IGNORECASE)
_CAMEL_CASE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_LONGEST_NAME = 64  # only the end of a name counts, and the cache below stays small

MAY_HOLD_URL_SECRET: Final = r"://\S*[@=]"
"""Matches every text in which `mask_urls` masks something, and few others. RE2 takes fewer characters for whitespace
than Python does, so it matches there too."""

_URL = re.compile(r"://\S*")
_USER_INFO = re.compile(r"(?<=://)[^/?#]*@")
_PARAMETER_NAME = re.compile(r"[?&#;]([^?&#;=]*+)=")
_PARAMETER_END = re.compile(r"[&#]|\Z")

_SHORTEST_CREDENTIAL = 15
_START = r"(?<![A-Za-z0-9])"
_SHAPES: Final = {
    # Stripe, ElevenLabs, Groq.
    "k_live_": rf"{_START}[sr]k_live_[A-Za-z0-9]{{8,}}",
    "k_test_": rf"{_START}[sr]k_test_[A-Za-z0-9]{{8,}}",
    "sk_": rf"{_START}g?sk_(?=[A-Za-z_]{{0,40}}[0-9])[A-Za-z0-9_]{{20,}}",
    # GitHub, npm, Hugging Face, GitLab.
    **{f"gh{kind}_": rf"{_START}gh{kind}_[A-Za-z0-9]{{20,}}" for kind in "opsur"},
    "github_pat_": rf"{_START}github_pat_[A-Za-z0-9_]{{20,}}",
    "npm_": rf"{_START}npm_[A-Za-z0-9]{{30,}}",
    "hf_": rf"{_START}hf_[A-Za-z0-9]{{30,}}",
    "glpat-": rf"{_START}glpat-[A-Za-z0-9_-]{{16,}}",
    # OpenAI, Anthropic and others; Slack.
    "sk-": rf"{_START}sk-[A-Za-z0-9_-]{{16,}}",
    "xox": rf"{_START}xox[a-z]-[A-Za-z0-9-]{{10,}}",
    "xapp-": rf"{_START}xapp-[A-Za-z0-9-]{{10,}}",
    "hooks.slack.com/services/": r"(?<=hooks\.slack\.com/services/)[A-Za-z0-9/]{8,}",
    # Google.
    "AIza": rf"{_START}AIza[A-Za-z0-9_-]{{35}}",
    "GOCSPX-": rf"{_START}GOCSPX-[A-Za-z0-9_-]{{20,}}",
    "ya29.": rf"{_START}ya29\.[A-Za-z0-9_-]{{20,}}",
    # AWS access keys; Twilio keys and accounts; SendGrid.
    "AKIA": rf"{_START}AKIA[A-Z0-9]{{16}}(?![A-Za-z0-9])",
    "ASIA": rf"{_START}ASIA[A-Z0-9]{{16}}(?![A-Za-z0-9])",
    "SK": rf"{_START}SK[0-9a-f]{{32}}(?![A-Za-z0-9])",
    "AC": rf"{_START}AC[0-9a-f]{{32}}(?![A-Za-z0-9])",
    "SG.": rf"{_START}SG\.[A-Za-z0-9_-]{{16,}}+\.[A-Za-z0-9_-]{{16,}}",
    # JSON web tokens, HTTP authorization.
    "eyJ": r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+(?:\.[A-Za-z0-9_-]*+)?",
    **{
        f"{scheme} ": rf"{_START}{scheme} {{1,4}}(?=[A-Za-z._~+/-]{{0,64}}[0-9=])[A-Za-z0-9._~+/=-]{{12,}}"
        for scheme in ("Bearer", "bearer", "Basic", "basic")
    },
    # Private keys in PEM, to the end if the footer is missing.
    "PRIVATE KEY-----": r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----(?s:.*?)"
    r"(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----|\Z)",
}
"""Patterns of credentials, by a literal to search for first.

A pattern that fails has read a bounded number of characters, or a run in which it cannot match again."""

# By a character, because most texts have few of them.
_PATTERNS: Final[dict[str, list[tuple[str, re.Pattern[str]]]]] = {"_": [], "-": [], ".": [], "": []}
for _literal, _pattern in _SHAPES.items():
    _character = next(character for character in _PATTERNS if character in _literal)
    _PATTERNS[_character].append((_literal, re.compile(_pattern)))


def mask_urls(text: str) -> str:
    """Mask user information and credentials among the parameters of every URL in a text; the rest stays as it is."""
    return _URL.sub(lambda match: _mask_url(match[0]), text) if "://" in text else text


def mask_text(text: str) -> str:
    """Mask the secret parts of URLs, and everything in the shape of a credential."""
    text = mask_urls(text)
    if len(text) >= _SHORTEST_CREDENTIAL:
        for character, patterns in _PATTERNS.items():
            if character in text:
                for literal, pattern in patterns:
                    if literal in text:
                        text = pattern.sub(MASK, text)
    return text


def mask_credentials(
    value: JsonValue, change_number: Callable[[int | Decimal], JsonValue] | None = None
) -> JsonValue:
    """Return a copy of the value with every header, every credential and every secret in a text masked.

    Keys stay, so that one can see what was configured. A `credential_id` names a key and is not one.

    :param change_number: changes every number on the way
    """
    return map_json(value, text=mask_text, number=change_number, keys=_mask_values)


def _mask_values(sent: JsonObject) -> JsonObject:
    """Return a copy of an object with the values masked whose key says that they are, or hold, credentials."""
    kept = sent.copy()
    for key, value in sent.items():
        if value and (named := _named_secret(key[-_LONGEST_NAME:])):
            kept[key] = _mask_named(named, key, value)
    return kept


@lru_cache(maxsize=4_096)
def _named_secret(name: str) -> Literal["credential", "headers"] | None:
    name = _CAMEL_CASE.sub("_", name)
    if _HEADERS_NAME.search(name):
        return "headers"
    return "credential" if _CREDENTIAL_NAME.search(name) else None


def is_credential_name(key: str) -> bool:
    """Return whether a key's name says that its value is a credential: `api_key`, `authToken`, `X-Secret`."""
    return _named_secret(key[-_LONGEST_NAME:]) == "credential"


def _mask_named(named: Literal["credential", "headers"], key: str, value: JsonValue) -> JsonValue:
    """Mask the value of a key whose name says that it is, or holds, a credential."""
    if named == "headers":
        return dict.fromkeys(value, MASK) if isinstance(value, dict) else MASK
    if isinstance(value, str):
        return MASK
    if isinstance(value, list):
        return [MASK if isinstance(item, str) and item else item for item in value]
    if isinstance(value, dict) and "type" not in value:  # otherwise the schema of a tool's parameter
        return {name: MASK if isinstance(item, str) and item else item for name, item in value.items()}
    is_number = isinstance(value, int | Decimal) and not isinstance(value, bool)
    return MASK if is_number and _NUMERIC_CREDENTIAL_NAME.search(key[-_LONGEST_NAME:]) else value


def _mask_url(url: str) -> str:
    """Mask a URL from `://` on; everything like a parameter is treated as one, so URLs inside URLs are masked, too."""
    url = _USER_INFO.sub(f"{MASK}@", url)
    pieces, copied, position = [], 0, 0
    while match := _PARAMETER_NAME.search(url, position):
        position = match.end()
        if is_credential_name(unquote_plus(match[1])):
            end = _PARAMETER_END.search(url, position)
            assert end is not None
            if end.start() > position:
                pieces += [url[copied:position], MASK]
                copied = position = end.start()
    return "".join([*pieces, url[copied:]])
