"""Transform: conversations to rows of tables. Independent of Airflow and of where the rows are loaded."""

from importlib import import_module
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

_MODULES = {"Drift": "schema_drift", "Redaction": "redaction"}


def __getattr__(name: str) -> Any:
    """Import what loads Arrow, NumPy and pydantic when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'decoder')}"), name)
