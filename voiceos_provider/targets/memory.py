"""How do a few conversations stay in memory, and never too many?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import msgspec
import pyarrow as pa

from voiceos_provider.api.models import Rejected
from voiceos_provider.exceptions import VoiceOSExportError, VoiceOSValueError
from voiceos_provider.records.columns import fingerprint
from voiceos_provider.targets.formats import as_json
from voiceos_provider.targets.receipt import ExportReceipt, Reading

_ADVICE = "use VoiceOSToObjectStorageOperator for results of this size"


class MemoryTarget:
    """Rows as an Arrow table, once the export has succeeded.

    :param columns: only these columns; None for all
    :param max_rows: conversations that may be kept; None for any number
    :param max_bytes: bytes they may have as JSON; None for any number
    """

    uri = "memory"

    def __init__(
        self,
        *,
        columns: Sequence[str] | None = None,
        max_rows: int | None = None,
        max_bytes: int | None = None,
    ) -> None:
        self._columns = columns
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self.table: pa.Table | None = None

    @contextmanager
    def open(self, schema: pa.Schema) -> Iterator[MemoryTarget]:
        """Ready to write.

        :raises VoiceOSValueError: if a column does not exist
        """
        names = schema.names if self._columns is None else list(self._columns)
        if unknown := [name for name in names if name not in schema.names]:
            raise VoiceOSValueError(
                f"columns {', '.join(map(repr, unknown))} do not exist; there are {', '.join(schema.names)}."
            )
        self._schema = schema
        self._names = names
        self._batches: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0
        yield self

    def write(self, batch: pa.RecordBatch) -> None:
        """Keep rows.

        :raises VoiceOSExportError: once there are more than allowed
        """
        self._rows += len(batch)
        if self._max_rows is not None and self._rows > self._max_rows:
            raise VoiceOSExportError(
                f"There are more than max_rows={self._max_rows:,} conversations; {_ADVICE}."
            )
        if self._max_bytes is not None:
            self._bytes += len(msgspec.json.encode(plain_rows(batch.select(self._names))))
            if self._bytes > self._max_bytes:
                raise VoiceOSExportError(
                    f"The conversations have more than max_bytes={self._max_bytes:,} bytes; ask for fewer columns, "
                    f"or {_ADVICE}."
                )
        self._batches.append(batch)

    def reject(self, rejected: Sequence[Rejected]) -> None:
        """:raises VoiceOSExportError: if there is any, for nobody would see it"""
        if rejected:
            raise VoiceOSExportError(f"{len(rejected)} conversations cannot be keyed: {rejected[0].reason}.")

    def publish(self, reading: Reading) -> ExportReceipt:
        """Hand over the table; of rows with the same id, the last one counts."""
        table = pa.Table.from_batches(self._batches, self._schema)
        last = {id_: at for at, id_ in enumerate(table.column("id").to_pylist())}
        exported = len(last)
        self.table = table.take(pa.array(sorted(last.values()), pa.int64())).select(self._names)
        return ExportReceipt(
            **asdict(reading),
            target=self.uri,
            exported=exported,
            duplicates=len(table) - exported,
            files=[],
            schema_fingerprint=fingerprint(self._schema),
        )


def plain_rows(rows: pa.Table | pa.RecordBatch) -> list[dict[str, Any]]:
    """Rows as plain JSON: date-times in RFC 3339, decimals as text so that none goes through a float."""
    return [{name: as_json(value) for name, value in row.items()} for row in rows.to_pylist()]
