"""Lake tables on local disk and S3, with one interface for all formats."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.support.databases import plain
from voiceos_provider.load.lake.destination import LakeDestination
from voiceos_provider.load.lake.table import Lake
from voiceos_provider.transform import Table

FORMATS = {"iceberg": "pyiceberg", "delta": "deltalake"}
"""The formats, with the package that each needs; `tests.support.lake_<format>` defines the class `Lake`."""


@dataclass(frozen=True)
class Location:
    """A new folder on local disk, or a prefix in a bucket.

    :param folder: a local folder of the test, also if the tables are elsewhere
    :param path: where the tables are: a local path, or `s3://bucket/prefix`
    :param s3: endpoint, key and secret; empty for local disk
    """

    folder: Path
    path: str
    s3: Mapping[str, str] = field(default_factory=dict)


class LakeUnderTest(ABC):
    """A lake of one format at one location. It can be pickled, so that another process can open it.

    :ivar libraries: names of independent libraries that read the format
    """

    format: str
    libraries: tuple[str, ...]

    def __init__(self, location: Location) -> None:
        self.location = location

    @abstractmethod
    def lake(self, table_prefix: str = "") -> Lake:
        """Return the lake as the operator makes it."""

    @abstractmethod
    def scan(self, table: Table, reader: str, table_prefix: str = "") -> list[dict[str, Any]]:
        """Return all rows and columns of a table as one of the libraries reads them; none if it does not exist."""

    @abstractmethod
    def commits(self, table: Table, table_prefix: str = "") -> list[Mapping[str, str]]:
        """Return the properties of each commit with data, the oldest first."""

    @abstractmethod
    def drop_column(self, table: Table, name: str) -> None:
        """Remove a column, as a user might, so that the table is one of an older version of the provider."""

    @abstractmethod
    def add_column(self, table: Table, name: str) -> None:
        """Add a nullable column of integers, as a user might."""

    def destination(
        self, *, disposition: str = "merge", table_prefix: str = "", create: bool = True, **options: Any
    ) -> LakeDestination:
        """Return what the operator makes of its arguments."""
        options.setdefault("sleep", lambda _: time.sleep(0.02))
        return LakeDestination(
            self.lake(table_prefix),
            write_disposition=disposition,  # type: ignore[arg-type]
            create_tables=create,
            **options,
        )

    def read(
        self, table: Table, *, reader: str | None = None, table_prefix: str = ""
    ) -> list[dict[str, Any]]:
        """Return the rows of a table in the order of its key, with our columns and plain values."""
        found = self.scan(table, reader or self.libraries[0], table_prefix)
        rows = [{c.name: plain(c, row[c.name]) for c in table.columns} for row in found]
        return sorted(rows, key=lambda row: [row[name] for name in table.key])

    def count(self, table: Table) -> int:
        """Return the number of rows of a table."""
        return len(self.read(table))


def formats() -> list[str]:
    """Return the formats whose packages are installed."""
    return [name for name, package in FORMATS.items() if find_spec(package)]


def make_lake(name: str, location: Location) -> LakeUnderTest:
    """Return a lake of a format."""
    lake: LakeUnderTest = import_module(f"tests.support.lake_{name}").Lake(location)
    return lake


def interrupted(
    destination: LakeDestination, table: Table, method: str, step: Callable[[], object]
) -> LakeDestination:
    """Run a step, once, right before the destination calls a method of a table, whose state it has read."""
    lake, remaining = destination._lake, [step]
    open_table = lake.table

    def table_with_step(opened: Table) -> Any:
        found = open_table(opened)
        call = getattr(found, method)

        def run_step_first(*arguments: Any) -> Any:
            if opened is table and remaining:
                remaining.pop()()
            return call(*arguments)

        setattr(found, method, run_step_first)
        return found

    lake.table = table_with_step  # type: ignore[method-assign]
    return destination
