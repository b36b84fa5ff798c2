"""Asset events of an export."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import Asset, AssetAlias

from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.utils.run_interval import resolve_interval

if TYPE_CHECKING:
    from voiceos_provider.load.receipt import ExportReceipt

log = logging.getLogger(__name__)

EXPORTS = AssetAlias("voiceos_exports")
"""The outlet of every operator that exports, through which its target becomes an asset.

It is an alias since the target is known once the templates are rendered, and since an asset that another DAG declares
under another name would keep the task from starting.
"""

_AIRFLOW_2 = Asset.__name__ == "Dataset"


def partition_key_of(operator: Any, context: Any) -> str | None:
    """Return the partition key of the operator's asset events: None, or the start of its interval in UTC.

    :raises VoiceOSValueError: if no outlet is an asset, or this Airflow has no such keys
    """
    if not operator.emit_partition_key:
        return None
    assets = [outlet for outlet in operator.outlets or () if isinstance(outlet, Asset)]
    if not assets:
        raise VoiceOSValueError(
            "emit_partition_key needs an asset in outlets, such as outlets=[Asset('s3://bucket/voiceos')]: the alias "
            f"{EXPORTS.name} cannot have partition keys."
        )
    events = context.get("outlet_events")
    if events is not None and not hasattr(events[assets[0]], "add_partitions"):
        raise VoiceOSValueError(
            "emit_partition_key needs Airflow 3.3: tasks of this Airflow cannot set the partition key of an event. "
            "Leave it out. On Airflow 3.2, the events of a DAG with a CronPartitionTimetable have the key of its run."
        )
    # Without the lookback, which reads earlier partitions again.
    interval = resolve_interval(
        operator.interval_start, operator.interval_end, context, partition_period=operator.partition_period
    )
    return f"{interval.start:%Y-%m-%dT%H:%M:%S}"  # the mappers of Airflow refuse a time zone


def emit_asset_events(
    context: Any, outlets: Iterable[Any] | None, receipt: ExportReceipt, *, partition_key: str | None = None
) -> None:
    """Make the receipt the extra of each outlet's event, and add the target to each alias.

    Extras hold no ids of conversations, because every user who may see assets can read them.

    :param partition_key: the partition key of the events of assets; None for that of the run
    """
    if (events := context.get("outlet_events")) is None:
        return
    extra = receipt.event_extra()
    uri = receipt.target if "://" in receipt.target else f"file://{receipt.target}"
    # Airflow drops what it takes for a fragment or a query, which would leave the asset of another path.
    uri = uri.replace("#", "%23").replace("?", "%3F")
    outlets = list(outlets or ())
    assets = [outlet for outlet in outlets if isinstance(outlet, Asset)]
    for asset in assets:
        events[asset].extra = extra
        if partition_key:
            events[asset].add_partitions(partition_key)
    for alias in (outlet for outlet in outlets if isinstance(outlet, AssetAlias)):
        if alias == EXPORTS and any(asset.uri == uri for asset in assets):
            continue  # it has its event already
        if alias == EXPORTS and _AIRFLOW_2 and getattr(context.get("ti"), "map_index", -1) >= 0:
            continue  # Airflow 2 stores no alias that it cannot see in the DAG, and fails the task for it
        try:
            target = Asset(uri=uri)
        except ValueError as error:  # a finished export does not fail because of the rules of a scheme
            log.warning("No asset event: %s is not an asset URI (%s).", uri, error)
            continue
        events[alias].add(target, extra=_flat(extra) if _AIRFLOW_2 else extra)


def _flat(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return an extra as Airflow 2 takes it through an alias: lists and objects as JSON text."""
    return {
        name: json.dumps(value) if isinstance(value, list | dict) else value for name, value in extra.items()
    }
