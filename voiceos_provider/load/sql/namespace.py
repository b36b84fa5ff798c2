"""Where do the tables of one export stand, and what is one of them to become?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from voiceos_provider.transform import Column, Table

CONSTANTS = ("_interval_start", "_interval_end", "_exported_at")
"""For what and when a row was read."""


@dataclass(frozen=True, slots=True)
class Namespace:
    """Where the tables of one export stand.

    :param schema: the schema, or what the engine calls so; None for the connection's own
    :param prefix: what the names of the tables begin with
    """

    schema: str | None = None
    prefix: str = ""

    def __str__(self) -> str:
        return f"{self.schema}.{self.prefix}*" if self.schema else f"{self.prefix}*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """The staged rows `s` of one table, and the table `t` that they are to stand in.

    :param target: the table's whole name; `bare` its name alone
    :param stage: the staging table's whole name
    :param standing: the table's columns with their types
    :param columns: those that are written
    :param advance: whether rows that are the same are written, too, for their `_exported_at`
    :param gone: which rows of the table are to go, named by `bare`; empty for none
    """

    table: Table
    target: str
    bare: str
    stage: str
    standing: Mapping[str, str]
    columns: tuple[Column, ...]
    advance: bool
    gone: str = ""
