"""Erasure of conversations from one target, shared by the operator and the command line."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence

from voiceos_provider.client import VoiceOSClient
from voiceos_provider.exceptions import VoiceOSExportError, VoiceOSValueError
from voiceos_provider.extract.by_id import read_each
from voiceos_provider.load.erasure import ErasableTarget, ErasureReceipt
from voiceos_provider.options import MAX_CONCURRENCY, as_names

log = logging.getLogger(__name__)


def erase_conversations(
    target: ErasableTarget, ids: Sequence[str], *, client: VoiceOSClient | None = None
) -> ErasureReceipt:
    """Remove conversations from a target. A second run removes nothing, unless the first was interrupted.

    :param ids: see `parse_ids`
    :param client: requests each conversation first, to report those that the API still returns; None to request none
    :raises VoiceOSExportError: if the target holds no export at all
    :raises VoiceOSError: as in `voiceos_provider.exceptions`; a retry completes the erasure
    """
    still_listed = None if client is None else _still_listed(client, ids)
    log.info("Erasing %d conversations from %s.", len(ids), target.uri)
    erased = target.erase(ids)
    if not erased.exists:
        raise VoiceOSExportError(
            f"{target.uri} holds no export. Check the path, or the schema, namespace and prefix of the tables."
        )
    receipt = ErasureReceipt.of(target.uri, ids, erased, still_listed)
    for line in receipt.log_lines():
        log.info("%s", line)
    return receipt


def parse_ids(value: object) -> tuple[str, ...]:
    """Return ids that are given as one id, a list, or a list as JSON, as a template renders it.

    :raises VoiceOSValueError: if there is none, or one is empty
    """
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            raise VoiceOSValueError(
                "ids is not a list. In a template of a list, add the filter: {{ params.ids | tojson }}."
            ) from None
    ids = as_names("ids", value)
    ids = tuple(id_.strip() for id_ in ids or ())
    if not ids or not all(ids) or {"None", "null"} & {*ids}:
        raise VoiceOSValueError(
            "ids is empty, or one of them is. Give the ids of the conversations to erase."
        )
    return ids


def _still_listed(client: VoiceOSClient, ids: Sequence[str]) -> list[str]:
    """Return the conversations that the API returns, or that it cannot be shown not to have."""
    pages = dict(read_each(client, ids, max_concurrency=MAX_CONCURRENCY))
    gone = {id_ for id_, page in pages.items() if not page.items and not page.unreadable}
    return [id_ for id_ in ids if id_ not in gone]
