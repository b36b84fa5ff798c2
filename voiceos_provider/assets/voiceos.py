"""Assets named `voiceos://account/conversations`.

The account is a name of your choice, or the host of the API, because the API has no endpoint that names the account.
The path is the name of a table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from airflow.providers.common.compat.openlineage.facet import Dataset
    from airflow.providers.common.compat.sdk import Asset

SCHEME = "voiceos"
CONVERSATIONS = "conversations"
"""Name of the table, repeated here since its declaration takes long to import."""


def uri_of(account: str, table: str = CONVERSATIONS) -> str:
    """Return the URI of an account's table."""
    return f"{SCHEME}://{account}/{table}"


def api_of(base_url: str) -> str:
    """Return the default account name of an API: its host, and its port if that is unusual."""
    return urlsplit(base_url).netloc


def create_asset(*, account: str, table: str = CONVERSATIONS, extra: dict[str, Any] | None = None) -> Asset:
    """Return an asset for `inlets`, `outlets` and schedules."""
    from airflow.providers.common.compat.sdk import Asset

    return Asset(uri=uri_of(account, table), extra=extra or {})


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """Check a `voiceos` URI and return it; Airflow calls this for each asset.

    :raises ValueError: if it names no account, or not one table
    """
    table = uri.path.strip("/")
    if not uri.netloc or not table or "/" in table or uri.query:
        raise ValueError(
            f"{uri.geturl()!r} does not name an account and a table; write it like {uri_of('my-account')}."
        )
    return uri._replace(path=f"/{table}")


def convert_asset_to_openlineage(asset: Asset, lineage_context: Any) -> Dataset:
    """Return the asset as an OpenLineage dataset."""
    from airflow.providers.common.compat.openlineage.facet import Dataset

    parts = urlsplit(asset.uri)
    return Dataset(namespace=f"{SCHEME}://{parts.netloc}", name=parts.path.strip("/"))
