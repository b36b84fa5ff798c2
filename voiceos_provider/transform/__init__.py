"""Transform: conversations to rows of tables. Independent of Airflow and of where the rows are loaded."""

from typing import TYPE_CHECKING, Any

from voiceos_provider.transform.schema import TABLES, Column, Table, choose_tables, fingerprint

if TYPE_CHECKING:
    from voiceos_provider.transform.decoder import Decoded, Decoder, Rows
    from voiceos_provider.transform.redaction import Redaction
    from voiceos_provider.transform.schema_drift import Drift

__all__ = [
    "TABLES",
    "Column",
    "Decoded",
    "Decoder",
    "Drift",
    "Redaction",
    "Rows",
    "Table",
    "choose_tables",
    "fingerprint",
]

_MODULES = {
    "Decoded": "decoder",
    "Decoder": "decoder",
    "Drift": "schema_drift",
    "Redaction": "redaction",
    "Rows": "decoder",
}


def __getattr__(name: str) -> Any:
    """Import the decoder, which loads Arrow, NumPy and pydantic, when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
