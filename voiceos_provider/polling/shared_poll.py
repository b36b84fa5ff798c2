"""How are many windows asked about at once? One question for all of them first; no I/O.

If nothing is open anywhere between the first start and the last end, all have ended: two requests. If something is,
the windows are halved until it is known which of them are open. Those that were open the last time are likely to be
so again, and are asked one by one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from itertools import groupby

from voiceos_provider.exceptions import VoiceOSAuthError, VoiceOSError
from voiceos_provider.interval import Interval
from voiceos_provider.polling.conditions import Finding, Window
from voiceos_provider.polling.queries import Look, first_open

LEAST_LOOKS = 20
_SHARE = 4
_MANY_OPEN = 3

Findings = dict[Window, Finding | VoiceOSError]
"""What was found, or why it cannot be. Of a window that is missing nothing is known: its turn comes next time."""


def survey(
    windows: Collection[Window], *, now: datetime, open_before: Collection[Window] = ()
) -> Look[Findings]:
    """Ask about all windows, with no more than `most_looks` looks of two requests each.

    An error that waiting may mend, or a token that is refused, ends the survey: it is what is found of every window
    that is left. Any other error is found of its window alone.

    :param windows: what is waited for
    :param now: the time
    :param open_before: those that the last survey found open, the one asked about longest ago first
    """
    found: Findings = {}
    parts: dict[Interval, list[Window]] = {}
    ended: list[Window] = []
    for window in dict.fromkeys(windows):
        if now < window.settled_at:
            found[window] = window.not_settled()
        elif part := window.young_part(now):
            parts.setdefault(part, []).append(window)
        else:
            ended.append(window)
    looks = most_looks(len(parts))
    part_of = {window: part for part, of in parts.items() for window in of}
    known = dict.fromkeys(part_of[window] for window in open_before if window in part_of)
    fresh = _groups(parts, known)
    try:
        # Neither the fresh ones nor the known ones may use up the looks of the others.
        taken = looks - min(len(known), looks // 2)
        yield from _search(fresh, parts, looks=taken, found=found, ended=ended)
        rest = looks // 2 if fresh else looks
        if len(known) > rest:
            # Their turns take several polls, and this one look tells if all of them have ended since.
            yield from _search([list(known)], parts, looks=1, found=found, ended=ended)
            known = {} if parts[next(iter(known))][0] in ended else known
            rest -= 1
        yield from _search([[part] for part in known], parts, looks=rest, found=found, ended=ended)
    except VoiceOSError as error:
        known_of = {*found, *ended}
        found.update({window: error for window in part_of if window not in known_of})
    for window in ended:
        try:
            found[window] = yield from window.look_for_enough()
        except VoiceOSError as error:
            found[window] = error
    return found


def most_looks(windows: int) -> int:
    """How many looks a survey may take: a quarter of what the windows would take alone, if they are many."""
    return max(LEAST_LOOKS, windows // _SHARE)


def _groups(parts: Iterable[Interval], known: Collection[Interval]) -> list[list[Interval]]:
    """The parts of which nothing is known, in groups between those that were open."""
    ordered = sorted(parts, key=lambda part: (part.end, part.start))
    runs = groupby(ordered, key=lambda part: part in known)
    groups = [list(run) for is_known, run in runs if not is_known]
    if _MANY_OPEN * len(known) > len(ordered):
        # Where every third is open, a group is hardly ever all ended, and asking for it is lost.
        return [[part] for group in groups for part in group]
    return groups


def _search(
    groups: Sequence[list[Interval]],
    parts: dict[Interval, list[Window]],
    *,
    looks: int,
    found: Findings,
    ended: list[Window],
) -> Look[None]:
    """Sort the groups' windows into the ended ones, and into what is found of the others."""
    ahead = deque(groups)
    while ahead and looks:
        group = ahead.popleft()
        looks -= 1
        outcome: Finding | VoiceOSError
        try:
            row = yield from first_open(Interval(min(p.start for p in group), max(p.end for p in group)))
        except VoiceOSError as error:
            if error.retryable or isinstance(error, VoiceOSAuthError):
                raise
            outcome = error
        else:
            if row is None:
                ended += [window for part in group for window in parts[part]]
                continue
            outcome = Finding(False, f"{row}")
        if len(group) == 1:
            found.update(dict.fromkeys(parts[group[0]], outcome))
        else:
            half = len(group) // 2
            ahead.extendleft([group[half:], group[:half]])
