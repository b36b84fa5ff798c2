"""Response body of a list request: items, page number and the flag that says whether another page follows."""

from __future__ import annotations

from collections.abc import Container, Sequence

from voiceos_provider.emulator.faults import Fault
from voiceos_provider.emulator.listing import Selection
from voiceos_provider.emulator.server_model import HasMore, ServerModel


def page_body(
    model: ServerModel,
    items: Sequence[bytes],
    *,
    selection: Selection,
    number: int,
    requested_limit: int,
    limit: int,
    stale_total: int | None,
    faults: Sequence[Fault],
) -> bytes:
    """Return the JSON of one page.

    :param items: JSON of the conversations on the page
    :param selection: all conversations that the request selects
    :param number: number of the page, counted from 1
    :param requested_limit: page size that the client sent
    :param limit: page size that the server applies
    :param stale_total: number of selected conversations before the world changed, for the mode that uses it
    :param faults: faults of this request; those of the flag replace the mode of the model
    """
    misshapes = {fault.misshape: fault for fault in faults if fault.misshape is not None}
    mode = _mode(model, misshapes)
    members = [b'"index":%d' % (number - 1 + model.first_index)]
    if mode != "missing":
        fault = misshapes.get("flag_integer")
        if fault is not None:
            flag = str(selection.total if fault.flag is None else fault.flag)
        elif mode == "total":
            flag = str(selection.total)
        else:
            more = _has_more(mode, len(items), selection, number, requested_limit, limit, stale_total)
            more = more or (model.empty_page_has_more and not items)
            flag = str(int(more)) if mode == "integer" else str(more).lower()
        members.append(f'"{"has_next" if mode == "legacy_name" else "has_more"}":{flag}'.encode())
    if items:
        listed: Sequence[bytes] = (b'"items":[', b",".join(items), b"],")
    else:
        listed = {"array": (b'"items":[],',), "null": (b'"items":null,',), "missing": ()}[model.empty_items]
    if "items_missing" in misshapes:
        listed = ()
    return b"".join((b"{", *listed, b",".join(members), b"}"))


def _mode(model: ServerModel, misshapes: Container[str]) -> HasMore:
    if "flag_missing" in misshapes:
        return "missing"
    return "legacy_name" if "flag_legacy" in misshapes else model.has_more


def _has_more(
    mode: HasMore,
    count: int,
    selection: Selection,
    number: int,
    requested_limit: int,
    limit: int,
    stale_total: int | None,
) -> bool:
    match mode:
        case "requested_limit":
            return count == requested_limit
        case "applied_limit":
            return count == limit
        case "stale_total" if stale_total is not None:
            return number * limit < stale_total
        case _:
            return selection.has_more(number, limit)
