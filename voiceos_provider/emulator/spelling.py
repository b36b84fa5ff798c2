"""How is a fault spelled on a command line? NAME, or NAME:ARGUMENT, then @ and how likely it is."""

from __future__ import annotations

from collections.abc import Callable

from voiceos_provider.emulator.faults import Fault

ARGUMENTS: dict[str, Callable[[str], object] | None] = {
    "rate_limit": str,
    "server_error": int,
    "unauthorized": int,
    "redirect": str,
    "body": str.encode,
    "gzip_bomb": int,
    "slow": float,
    "drip_headers": float,
    "drip_body": float,
    "cut_body": int,
    "truncated_gzip": None,
    "reset": int,
    "repeat_page": None,
    "clamp_index": None,
    "ignore_window": str,
    "flag_missing": None,
    "flag_legacy": None,
    "flag_integer": int,
    "items_missing": None,
}
"""What each fault takes."""


def read_fault(text: str) -> tuple[Fault, float]:
    """The fault and its probability; raises ValueError, saying what is wrong, for any other text."""
    spelled, _, chance = text.rpartition("@")
    name, _, argument = spelled.partition(":")
    name = name.replace("-", "_")
    if name not in ARGUMENTS:
        raise ValueError(f"{text!r} is not NAME[:ARG]@PROBABILITY with a name among {', '.join(ARGUMENTS)}")
    try:
        probability = float(chance)
    except ValueError:
        raise ValueError(f"{chance!r} in {text!r} is not a probability") from None
    if not 0 <= probability <= 1:
        raise ValueError(f"the probability in {text!r} must lie between 0 and 1")
    constructor, reads = getattr(Fault, name), ARGUMENTS[name]
    try:
        if not argument:
            return constructor(), probability
        if reads is None:
            raise TypeError(name)
        return constructor(reads(argument)), probability
    except (TypeError, ValueError):
        raise ValueError(f"the argument in {text!r} is missing, not understood, or one too many") from None
