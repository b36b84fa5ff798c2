"""Check of what is exported: gaps, overlaps, age, unusual numbers, and limits for recent exports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, get_args

from airflow.providers.common.compat.sdk import BaseOperator

from voiceos_provider.exceptions import VoiceOSExportError, VoiceOSValueError
from voiceos_provider.interval import is_missing
from voiceos_provider.utils.errors import fail_without_retry

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from voiceos_provider.load.coverage import Coverage, Export

Reaction = Literal["fail", "warn", "ignore"]

_NAMED = 5


class VoiceOSCoverageCheckOperator(BaseOperator):
    """Fail or warn if a target has a gap, an overlap, no recent interval, or a day with unusually few conversations.

    Reads the manifests below a path, or the table of conversations in a database. An interval without conversations
    leaves no rows in a database, and is a gap there.

    :param path: folder or bucket that an export wrote to. (templated)
    :param sql_conn_id: the Connection of the database, in place of `path`. (templated)
    :param storage_conn_id: the Connection of the store; None for the store's default credentials. (templated)
    :param schema: the schema of the tables; None for the connection's own. (templated)
    :param table_prefix: prefix of the names of the tables. (templated)
    :param interval_start: start of the range that must be covered, ISO 8601 with an offset; None for the start of the
        earliest interval. (templated)
    :param interval_end: its exclusive end; None for the end of the latest interval. (templated)
    :param max_age: age of the latest interval at which the target is stale, as ``timedelta`` or in seconds; None for
        twice the length of that interval
    :param on_gap: ``fail`` the task, ``warn`` in its log, or ``ignore``
    :param on_overlap: the same for intervals that overlap. Loads with `lookback` overlap by design.
    :param on_stale: the same for a target that is stale
    :param on_anomaly: the same for a day with less than half of the median of the same weekdays before
    :param limits: limits for the exports of a day, by name. None for no limits. (templated)

        ``min_share_of_median``, ``max_share_of_median``: conversations, relative to the median of the same weekdays
        before; ``max_pending_share``: pending conversations, relative to pending and exported ones; ``max_rejected``:
        rejected conversations; ``max_drift``: different cases of schema drift; ``max_cost_per_minute``: US dollars per
        minute of conversation. A database does not hold rejected conversations, schema drift and durations of exports:
        the last three never fail there.
    :param last_exports: apply the limits only to the days of this many latest intervals; None for all
    :param on_exceeded: ``fail``, ``warn`` or ``ignore`` when a day exceeds a limit
    :param dialect: SQL dialect, if the type of the connection does not select it. (templated)
    :param hook_params: further arguments of the database connection's own hook. (templated)
    :return: the coverage as plain JSON, without the single days, and under ``exceeded`` the days that exceed limits,
        with the reasons
    """

    template_fields: Sequence[str] = (
        "path",
        "sql_conn_id",
        "storage_conn_id",
        "schema",
        "table_prefix",
        "interval_start",
        "interval_end",
        "limits",
        "dialect",
        "hook_params",
    )
    ui_color = "#e8f0ff"

    def __init__(
        self,
        *,
        path: str | None = None,
        sql_conn_id: str | None = None,
        storage_conn_id: str | None = None,
        schema: str | None = None,
        table_prefix: str = "",
        interval_start: str | date | None = None,
        interval_end: str | date | None = None,
        max_age: timedelta | float | None = None,
        on_gap: Reaction = "fail",
        on_overlap: Reaction = "fail",
        on_stale: Reaction = "fail",
        on_anomaly: Reaction = "warn",
        limits: Mapping[str, float] | None = None,
        last_exports: int | None = None,
        on_exceeded: Reaction = "fail",
        dialect: str | None = None,
        hook_params: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.path = path
        self.sql_conn_id = sql_conn_id
        self.storage_conn_id = storage_conn_id
        self.schema = schema
        self.table_prefix = table_prefix
        self.interval_start = interval_start
        self.interval_end = interval_end
        self.max_age = max_age
        self.on_gap = on_gap
        self.on_overlap = on_overlap
        self.on_stale = on_stale
        self.on_anomaly = on_anomaly
        self.limits = limits
        self.last_exports = last_exports
        self.on_exceeded = on_exceeded
        self.dialect = dialect
        self.hook_params = hook_params

    def execute(self, context: Context) -> dict[str, Any]:
        """Compute the coverage, log what is wrong, and fail if it is to."""
        with fail_without_retry():
            coverage, exceeded = self._judge()
            failures = []
            for reaction, finding in self._findings(coverage, exceeded):
                if reaction == "fail":
                    failures.append(finding)
                elif reaction == "warn":
                    self.log.warning("%s", finding)
            if failures:
                raise VoiceOSExportError(f"Coverage of {coverage.target}: {' '.join(failures)}")
        self.log.info(
            "%s: %s intervals in %s, %s conversations.",
            coverage.target,
            f"{coverage.exports:,}",
            coverage.interval,
            f"{coverage.rows:,}",
        )
        found = {name: value for name, value in coverage.as_dict().items() if name != "days"}
        return found | {"exceeded": [{"day": day.isoformat(), "reason": reason} for day, reason in exceeded]}

    def _judge(self) -> tuple[Coverage, list[tuple[date, str]]]:
        from voiceos_provider.interval import as_duration
        from voiceos_provider.load.coverage import Limits, compute_coverage, exceeded_limits, required_range

        limits = Limits.parse(self.limits or {})
        if self.last_exports is not None and self.last_exports < 1:
            raise VoiceOSValueError(f"last_exports {self.last_exports} is less than 1.")
        for name in ("on_gap", "on_overlap", "on_stale", "on_anomaly", "on_exceeded"):
            if getattr(self, name) not in get_args(Reaction):
                raise VoiceOSValueError(
                    f"{name} {getattr(self, name)!r} is not one of {', '.join(get_args(Reaction))}."
                )
        exports = self._exports()
        if not exports:
            raise VoiceOSExportError(f"No export found in {self.path or self.sql_conn_id}.")
        (coverage,) = compute_coverage(
            exports,
            now=datetime.now(UTC),
            required=required_range(exports, self.interval_start, self.interval_end),
            max_age=None if self.max_age is None else as_duration("max_age", self.max_age),
        )
        return coverage, exceeded_limits(exports, limits, last=self.last_exports)

    def _exports(self) -> list[Export]:
        from voiceos_provider.load.files.manifests import Manifests
        from voiceos_provider.load.files.store import Store
        from voiceos_provider.utils.databases import open_tables
        from voiceos_provider.utils.storage import open_path

        if bool(self.path) == bool(self.sql_conn_id):
            raise VoiceOSValueError("Set either path or sql_conn_id.")
        kind, names = "a database", ["storage_conn_id"]
        if self.path:
            kind, names = "files", ["schema", "table_prefix", "dialect", "hook_params"]
        for name in names:
            if (value := getattr(self, name)) and not is_missing(value):
                raise VoiceOSValueError(f"{name} does not apply to {kind}; leave it out.")
        if self.path:
            return Manifests(Store(open_path(str(self.path), self.storage_conn_id))).exports()
        tables = open_tables(
            str(self.sql_conn_id),
            schema=self.schema,
            table_prefix=self.table_prefix,
            dialect=self.dialect,
            hook_params=self.hook_params,
        )
        return tables.exports()

    def _findings(
        self, coverage: Coverage, exceeded: Sequence[tuple[date, str]]
    ) -> Iterator[tuple[Reaction, str]]:
        if coverage.gaps:
            yield self.on_gap, f"{len(coverage.gaps)} gaps: {_some(coverage.gaps)}."
        if coverage.overlaps:
            yield self.on_overlap, f"{len(coverage.overlaps)} overlaps: {_some(coverage.overlaps)}."
        if coverage.stale:
            yield self.on_stale, f"Stale: the last interval ended at {coverage.covered_until.isoformat()}."
        if coverage.anomalies:
            days = [
                f"{day.day} with {day.rows:,.0f} conversations, usually {day.usual:,.0f}"
                for day in coverage.anomalies
            ]
            yield self.on_anomaly, f"{len(days)} unusual days: {_some(days)}."
        if exceeded:
            reasons = [f"{day}: {reason}" for day, reason in exceeded]
            yield self.on_exceeded, f"{len(reasons)} limits exceeded: {_some(reasons)}."


def _some(found: Sequence[object]) -> str:
    """Return the latest of some findings as text."""
    others = f" and {len(found) - _NAMED} before" if len(found) > _NAMED else ""
    return ", ".join(map(str, found[-_NAMED:])) + others
