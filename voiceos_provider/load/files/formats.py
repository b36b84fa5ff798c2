"""File formats and their compressions. Imports nothing heavy, so operators can use it while a DAG file is parsed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from voiceos_provider.exceptions import VoiceOSValueError

if TYPE_CHECKING:
    import pyarrow as pa

FileFormat = Literal["parquet", "jsonl", "csv"]
Compression = Literal["zstd", "gzip", "snappy", "none"]

_SUFFIX = {"gzip": ".gz", "zstd": ".zst", "none": ""}
_CHOICES: dict[str, tuple[str, ...]] = {
    "parquet": ("zstd", "gzip", "snappy", "none"),
    "jsonl": ("none", "gzip", "zstd"),
    "csv": ("none", "gzip", "zstd"),
}


@dataclass(frozen=True, slots=True)
class Encoding:
    """A file format with its compression."""

    file_format: str
    compression: str

    @classmethod
    def choose(cls, file_format: str, compression: str | None) -> Encoding:
        """Return the encoding that a user has chosen.

        :raises VoiceOSValueError: if the two are unknown or do not go together
        """
        if file_format not in _CHOICES:
            raise VoiceOSValueError(
                f"file_format {file_format!r} is not one of {', '.join(get_args(FileFormat))}."
            )
        choices = _CHOICES[file_format]
        chosen = choices[0] if compression is None else compression
        if chosen not in choices:
            raise VoiceOSValueError(
                f"compression {compression!r} is not one of {', '.join(choices)}, those of {file_format}."
            )
        return cls(file_format, chosen)

    @property
    def suffix(self) -> str:
        """The end of the file's name: `.parquet`, `.jsonl.gz`."""
        return (
            ".parquet" if self.file_format == "parquet" else f".{self.file_format}{_SUFFIX[self.compression]}"
        )

    @classmethod
    def suffixes(cls) -> list[str]:
        """Return the suffixes of all encodings."""
        pairs = (cls(name, compression) for name, choices in _CHOICES.items() for compression in choices)
        return list(dict.fromkeys(pair.suffix for pair in pairs))

    def write(self, path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
        """Write the whole file. Without rows it still has the full schema, where the format has one."""
        from voiceos_provider.load.files import encoders

        encoders.write(path, self.file_format, self.compression, schema, batches)

    def count(self, path: Path) -> int:
        """Return the rows that a reader finds in the file, counted from the file itself."""
        from voiceos_provider.load.files import encoders

        return encoders.count(path, self.file_format, self.compression)
