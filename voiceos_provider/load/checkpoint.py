"""Checkpoint of an export: what has been read, and which bytes in the work directory hold it.

`load.workdir.ResumableWorkDir` saves it, and `utils.resume` keeps the path of the directory in the state of Airflow's
task, so that the next attempt finds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from voiceos_provider.exceptions import VoiceOSDestinationError
from voiceos_provider.interval import Interval
from voiceos_provider.load.receipt import ReadCounts


class DamagedWorkDirError(VoiceOSDestinationError):
    """The work directory does not hold what an earlier attempt wrote. It is removed, so a retry starts over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadProgress:
    """What has been read of an interval.

    :param drift: departures from the contract, as plain JSON
    :param pending: ids of conversations left out because they have not ended
    :param unfinished: ids of conversations exported as they were, which have not ended
    :param covered: the parts of the interval that have been read completely
    """

    reading: ReadCounts
    drift: dict[str, Any] = field(default_factory=dict)
    pending: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()
    covered: tuple[Interval, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SpooledPart:
    """A file of the work directory.

    :param bytes: its first bytes that count; what follows was written after the checkpoint
    """

    bytes: int = 0
    rows: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SpooledRows:
    """Which bytes in the work directory count.

    :param tables: for each table, the file of each attempt
    :param rejected: records set aside
    :param rejected_bytes: the bytes of the file that holds them
    """

    tables: Mapping[str, tuple[SpooledPart, ...]] = field(default_factory=dict)
    rejected: int = 0
    rejected_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Where an attempt stopped, and a retry resumes.

    :param written: which bytes in the work directory hold it
    """

    read: ReadProgress
    written: SpooledRows

    def to_json(self) -> bytes:
        """Return the checkpoint as JSON."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, text: bytes) -> Checkpoint:
        """Return a checkpoint that `to_json` wrote.

        :raises DamagedWorkDirError: if it is not one
        """
        try:
            return msgspec.json.decode(text, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DamagedWorkDirError(
                f"The checkpoint of the last attempt cannot be read: {error}."
            ) from error
