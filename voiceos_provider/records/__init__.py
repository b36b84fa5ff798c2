"""Conversations as rows of tables. Knows nothing of Airflow, nor of where the rows go."""

from voiceos_provider.records.columns import CONVERSATIONS, SCHEMA, Column, fingerprint
from voiceos_provider.records.decoder import Decoded, Decoder

__all__ = ["CONVERSATIONS", "SCHEMA", "Column", "Decoded", "Decoder", "fingerprint"]
