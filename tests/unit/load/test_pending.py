"""Conversations that an export requests because they were pending in an earlier interval."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from voiceos_provider.interval import Interval
from voiceos_provider.load.pending import IntervalOutcome, PendingConversations, find_pending, is_relevant

DAYS = [
    Interval(datetime(2026, 11, day, tzinfo=UTC), datetime(2026, 11, day + 1, tzinfo=UTC))
    for day in range(1, 15)
]
MAX_AGE = timedelta(days=3)


def outcome(day: int, pending: str = "", resolved: str = "") -> IntervalOutcome:
    """Return the outcome of the export of a day; ids are letters."""
    return IntervalOutcome(DAYS[day], frozenset(pending), frozenset(resolved))


def test_pending_conversations_of_earlier_intervals_are_requested() -> None:
    """The oldest come first, without those that have ended since."""
    outcomes = [outcome(1, "c"), outcome(0, "ab"), outcome(2, "", "b")]
    assert find_pending(outcomes, DAYS[3], MAX_AGE) == PendingConversations({"a": DAYS[0], "c": DAYS[1]})


def test_first_export_requests_nothing() -> None:
    """There is no earlier outcome."""
    assert find_pending([], DAYS[3], MAX_AGE) == PendingConversations()


def test_later_intervals_matter_only_for_conversations_they_saw_end() -> None:
    """Their own pending conversations did not exist yet."""
    outcomes = [outcome(0, "ab"), outcome(5, "x", "a")]
    assert find_pending(outcomes, DAYS[1], MAX_AGE) == PendingConversations({"b": DAYS[0]})


def test_repeated_run_requests_the_same_conversations() -> None:
    """Its own export, with the late arrivals in it, is about to be replaced."""
    outcomes = [outcome(0, "ab"), outcome(1, "c", "a")]
    assert find_pending(outcomes, DAYS[1], MAX_AGE) == PendingConversations({"a": DAYS[0], "b": DAYS[0]})


def test_conversation_that_never_ends_is_abandoned_once() -> None:
    """Only one export names it."""
    outcomes = [outcome(0, "a")]
    requested = [find_pending(outcomes, day, MAX_AGE) for day in DAYS[1:8]]
    assert requested == [
        *[PendingConversations({"a": DAYS[0]})] * 3,
        PendingConversations({}, ("a",)),
        PendingConversations(),
        PendingConversations(),
        PendingConversations(),
    ]


def test_max_age_below_the_length_of_an_interval_still_requests_once() -> None:
    """A whole month is older than the age when the next one begins."""
    months = [
        Interval(datetime(2026, month, 1, tzinfo=UTC), datetime(2026, month + 1, 1, tzinfo=UTC))
        for month in (1, 2, 3)
    ]
    outcomes = [IntervalOutcome(months[0], frozenset("a"), frozenset())]
    assert find_pending(outcomes, months[1], MAX_AGE) == PendingConversations({"a": months[0]})
    assert find_pending(outcomes, months[2], MAX_AGE) == PendingConversations({}, ("a",))


def test_earliest_time_does_not_overflow() -> None:
    """Any age is allowed."""
    first = Interval(datetime(1, 1, 1, tzinfo=UTC), datetime(1, 1, 2, tzinfo=UTC))
    for age in (timedelta(days=100_000), timedelta.max):
        assert find_pending([outcome(0, "a")], first, age) == PendingConversations()
        assert find_pending([outcome(0, "a")], DAYS[3], age) == PendingConversations({"a": DAYS[0]})


ENDS = st.dictionaries(
    st.sampled_from("abcdefghij"), st.tuples(st.integers(0, 5), st.integers(0, 8)), max_size=10
)


@given(lifetimes=ENDS, again=st.lists(st.integers(0, 8), max_size=20), early=st.booleans())
def test_conversation_that_ends_in_time_is_exported_after_any_reruns(
    lifetimes: dict[str, tuple[int, int]], again: list[int], *, early: bool
) -> None:
    """Days run in order, then again in any order: the union of the files only grows.

    :param lifetimes: on which day each is created, and how many days later it has ended
    """
    files: dict[int, set[str]] = {}
    outcomes: dict[int, IntervalOutcome] = {}

    def run(day: int, now: int) -> None:
        ended = {id_ for id_, (created, lasts) in lifetimes.items() if created + lasts < now}
        own = {id_ for id_, (created, _) in lifetimes.items() if created == day}
        relevant = [each for each in outcomes.values() if is_relevant(each.interval, DAYS[day], MAX_AGE)]
        found = find_pending(relevant, DAYS[day], MAX_AGE)
        assert found == find_pending(outcomes.values(), DAYS[day], MAX_AGE)
        carried = set(found.ids) & ended
        files[day] = own & ended | carried
        outcomes[day] = IntervalOutcome(DAYS[day], frozenset(own - ended), frozenset(carried))

    before: set[str] = set()
    for day in range(9):
        run(day, day + 1)
        if early and again:
            run(min(again.pop(), day), day + 1)
        assert before <= set().union(*files.values())
        before = set().union(*files.values())
    in_time = {id_ for id_, (_, lasts) in lifetimes.items() if timedelta(days=lasts) <= MAX_AGE}
    assert in_time <= before
    for day in again:
        run(day, 9)
        assert before <= set().union(*files.values())
        before = set().union(*files.values())


def test_only_intervals_within_max_age_are_relevant() -> None:
    """A backfill of past years reads nothing current, and the limits of time do not overflow."""
    relevant = [number for number, day in enumerate(DAYS) if is_relevant(day, DAYS[6], timedelta(days=2))]
    assert relevant == [3, 4, 5, 6, 7, 8, 9]
    last = Interval(datetime(9999, 12, 30, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC))
    for day in (DAYS[0], last):
        assert is_relevant(last, day, timedelta.max)
        assert is_relevant(DAYS[0], day, timedelta.max)
