"""Conversations as rows of tables. Knows nothing of Airflow, nor of where the rows go."""

from voiceos_provider.transform.decoder import Decoded, Decoder, Rows
from voiceos_provider.transform.redaction import Redaction
from voiceos_provider.transform.schema import TABLES, Column, Table, choose_tables, fingerprint
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
