"""Context that the steps of one load share."""

from __future__ import annotations

from dataclasses import dataclass, field

from voiceos_provider.load.plan import LoadPlan
from voiceos_provider.load.sql.dialect import Dialect
from voiceos_provider.load.sql.plan import Rowset
from voiceos_provider.load.sql.staging import StorableRows


@dataclass(slots=True)
class LoadContext:
    """One load on one connection, with what it has found out so far.

    :param rowsets: the rows to load per table; those of `conversations` are always among them
    :param existing: types of the existing columns, per table
    :param outdated: number of staged rows older than the existing ones, per table
    :param loaded: what was sent to the engine, per table
    """

    dialect: Dialect
    plan: LoadPlan
    rowsets: dict[str, Rowset]
    action: str = "connect"
    existing: dict[str, dict[str, str]] = field(default_factory=dict)
    outdated: dict[str, int] = field(default_factory=dict)
    loaded: dict[str, StorableRows] = field(default_factory=dict)

    @property
    def row_version(self) -> str:
        """The row version of the load, as a literal."""
        return self.dialect.instant(self.plan.exported_at)

    def in_interval(self, qualifier: str = "") -> str:
        """Return the condition for rows created within the interval, whichever interval they were read for."""
        start, end = (self.dialect.instant(at) for at in (self.plan.interval.start, self.plan.interval.end))
        return (
            f"{qualifier}{self.dialect.quote('_interval_start')} >= {start} "
            f"AND {qualifier}{self.dialect.quote('_interval_end')} <= {end}"
        )
