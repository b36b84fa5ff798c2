"""Which conversations an export asks for that had not ended when their own interval was exported."""

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


def account(day: int, pending: str = "", settled: str = "") -> IntervalOutcome:
    """Return the outcome of the export of a day; ids are letters."""
    return IntervalOutcome(DAYS[day], frozenset(pending), frozenset(settled))


def test_it_asks_for_those_that_nobody_has_seen_end() -> None:
    """Of earlier intervals, the oldest first."""
    accounts = [account(1, "c"), account(0, "ab"), account(2, "", "b")]
    assert find_pending(accounts, DAYS[3], MAX_AGE) == PendingConversations({"a": DAYS[0], "c": DAYS[1]})


def test_the_first_export_asks_for_nobody() -> None:
    """There is no account yet."""
    assert find_pending([], DAYS[3], MAX_AGE) == PendingConversations()


def test_what_a_later_interval_says_does_not_matter_to_an_earlier_one() -> None:
    """Its conversations did not exist yet; but whom it has seen end need not be asked for."""
    accounts = [account(0, "ab"), account(5, "x", "a")]
    assert find_pending(accounts, DAYS[1], MAX_AGE) == PendingConversations({"b": DAYS[0]})


def test_a_run_that_is_repeated_asks_for_the_same_again() -> None:
    """Its own export is about to be replaced, with those that it carried."""
    accounts = [account(0, "ab"), account(1, "c", "a")]
    assert find_pending(accounts, DAYS[1], MAX_AGE) == PendingConversations({"a": DAYS[0], "b": DAYS[0]})


def test_a_conversation_that_never_ends_is_given_up_once() -> None:
    """It is named by one export, and by none after it."""
    accounts = [account(0, "a")]
    asked = [find_pending(accounts, day, MAX_AGE) for day in DAYS[1:8]]
    assert asked == [
        *[PendingConversations({"a": DAYS[0]})] * 3,
        PendingConversations({}, ("a",)),
        PendingConversations(),
        PendingConversations(),
        PendingConversations(),
    ]


def test_a_whole_month_is_long_over_when_the_next_one_begins() -> None:
    """An age shorter than an interval still asks once."""
    months = [
        Interval(datetime(2026, month, 1, tzinfo=UTC), datetime(2026, month + 1, 1, tzinfo=UTC))
        for month in (1, 2, 3)
    ]
    accounts = [IntervalOutcome(months[0], frozenset("a"), frozenset())]
    assert find_pending(accounts, months[1], MAX_AGE) == PendingConversations({"a": months[0]})
    assert find_pending(accounts, months[2], MAX_AGE) == PendingConversations({}, ("a",))


def test_the_beginning_of_time_is_no_reason_to_fail() -> None:
    """Whatever the age."""
    first = Interval(datetime(1, 1, 1, tzinfo=UTC), datetime(1, 1, 2, tzinfo=UTC))
    for age in (timedelta(days=100_000), timedelta.max):
        assert find_pending([account(0, "a")], first, age) == PendingConversations()
        assert find_pending([account(0, "a")], DAYS[3], age) == PendingConversations({"a": DAYS[0]})


ENDS = st.dictionaries(
    st.sampled_from("abcdefghij"), st.tuples(st.integers(0, 5), st.integers(0, 8)), max_size=10
)


@given(lives=ENDS, again=st.lists(st.integers(0, 8), max_size=20), early=st.booleans())
def test_whoever_ends_in_time_is_exported_whatever_is_run_again(
    lives: dict[str, tuple[int, int]], again: list[int], *, early: bool
) -> None:
    """Each day in its turn, then any of them again in any order: the union of the files only ever grows.

    :param lives: on which day each is created, and how many days later it has ended
    """
    files: dict[int, set[str]] = {}
    accounts: dict[int, IntervalOutcome] = {}

    def run(day: int, now: int) -> None:
        ended = {id_ for id_, (created, lasts) in lives.items() if created + lasts < now}
        own = {id_ for id_, (created, _) in lives.items() if created == day}
        relevant = [each for each in accounts.values() if is_relevant(each.interval, DAYS[day], MAX_AGE)]
        found = find_pending(relevant, DAYS[day], MAX_AGE)
        assert found == find_pending(accounts.values(), DAYS[day], MAX_AGE)
        carried = set(found.ids) & ended
        files[day] = own & ended | carried
        accounts[day] = IntervalOutcome(DAYS[day], frozenset(own - ended), frozenset(carried))

    before: set[str] = set()
    for day in range(9):
        run(day, day + 1)
        if early and again:
            run(min(again.pop(), day), day + 1)
        assert before <= set().union(*files.values())
        before = set().union(*files.values())
    in_time = {id_ for id_, (_, lasts) in lives.items() if timedelta(days=lasts) <= MAX_AGE}
    assert in_time <= before
    for day in again:
        run(day, 9)
        assert before <= set().union(*files.values())
        before = set().union(*files.values())


def test_what_matters_to_an_interval_lies_within_max_age_of_it_on_both_sides() -> None:
    """So a backfill of years ago reads nothing of this week; and the ends of time do not overflow."""
    relevant = [number for number, day in enumerate(DAYS) if is_relevant(day, DAYS[6], timedelta(days=2))]
    assert relevant == [3, 4, 5, 6, 7, 8, 9]
    last = Interval(datetime(9999, 12, 30, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC))
    for day in (DAYS[0], last):
        assert is_relevant(last, day, timedelta.max)
        assert is_relevant(DAYS[0], day, timedelta.max)
