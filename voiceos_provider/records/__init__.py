"""Conversations as rows of tables. Knows nothing of Airflow, nor of where the rows go."""

from voiceos_provider.records.decoder import Decoded, Decoder, Rows
from voiceos_provider.records.drift import Drift
from voiceos_provider.records.privacy import Privacy
from voiceos_provider.records.tables import TABLES, Column, Table, choose_tables, fingerprint

__all__ = [
    "TABLES",
    "Column",
    "Decoded",
    "Decoder",
    "Drift",
    "Privacy",
    "Rows",
    "Table",
    "choose_tables",
    "fingerprint",
]
