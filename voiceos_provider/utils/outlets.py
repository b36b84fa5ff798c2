"""What do a task's assets learn of an export?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from airflow.providers.common.compat.sdk import Asset, AssetAlias

from voiceos_provider.load.receipt import ExportReceipt


def tell_outlets(context: Any, outlets: Iterable[Any] | None, receipt: ExportReceipt) -> None:
    """Make the receipt the extra of each outlet's event; an alias learns the address of what was published."""
    extra = receipt.summary()
    for outlet in outlets or ():
        if isinstance(outlet, AssetAlias):
            uri = receipt.target if "://" in receipt.target else f"file://{receipt.target}"
            context["outlet_events"][outlet].add(Asset(uri=uri), extra=extra)
        elif isinstance(outlet, Asset):
            context["outlet_events"][outlet].extra = extra
