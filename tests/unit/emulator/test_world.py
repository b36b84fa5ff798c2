"""Conversations in a world."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from voiceos_provider.emulator import World

_DIGEST = """
import hashlib
from datetime import UTC, datetime
import numpy as np
from voiceos_provider.emulator import World
world = World(seed=11, conversations=300, start=datetime(2026, 3, 1, tzinfo=UTC))
written = world.write(world.population, np.arange(300), now=2**62)
print(hashlib.sha256(b"".join(written)).hexdigest())
"""


def test_same_seed_gives_same_bytes_in_every_process() -> None:
    """A world is the same in another process and on another platform, to the last digit of a cost."""
    digests = set()
    for hash_seed in ("0", "1"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        digests.add(
            subprocess.run(
                [sys.executable, "-c", _DIGEST], env=environment, capture_output=True, text=True, check=True
            ).stdout.strip()
        )
    assert digests == {"25f0a4aca17954a9b3041dad9e2a7ccf19deab20adab7e944efa64a2eca4bc7e"}


def test_another_seed_gives_another_world(start: datetime) -> None:
    """Two seeds share only the window."""
    one, other = (World(seed=seed, conversations=200, start=start) for seed in (1, 2))
    assert not set(one.ids()) & set(other.ids())
    assert one.population.created.tolist() != other.population.created.tolist()


def test_an_id_depends_on_seed_and_ordinal_only(start: datetime) -> None:
    """Ids do not change with the size of the world."""
    small, large = (World(seed=3, conversations=size, start=start) for size in (100, 1_000))
    assert set(small.ids()) < set(large.ids())


def test_default_window_is_the_week_that_ends_today() -> None:
    """A default world has conversations of today, some of them in the future."""
    world = World()
    now = datetime.now(UTC)
    assert len(world) == 2_000
    assert world.start <= now < world.end
    assert world.end - world.start == timedelta(days=7)
    assert len(world.ids(now=now)) < len(world.ids())


def test_a_window_must_not_be_empty(start: datetime) -> None:
    """A start that is not before the end is an error."""
    with pytest.raises(ValueError, match="is not before end"):
        World(start=start, end=start)


def test_an_empty_world_has_no_conversations(start: datetime) -> None:
    """Zero is a valid size."""
    assert World(conversations=0, start=start).ids() == []


@pytest.mark.parametrize("window", [timedelta(microseconds=1), timedelta(seconds=1), timedelta(days=400)])
def test_creation_times_lie_in_the_window_however_short_or_long(start: datetime, window: timedelta) -> None:
    """The start is included, the end is not."""
    world = World(conversations=500, start=start, end=start + window)
    times = [world.created_at(id) for id in world.ids()]
    assert start <= times[0]
    assert times == sorted(times)
    assert times[-1] < start + window


def test_load_follows_the_day_and_comes_in_bursts(large_world: World) -> None:
    """Nights are quiet, and campaigns create many conversations within a minute."""
    created = large_world.population.created
    hours = np.bincount(created // 3_600_000_000 % 24, minlength=24)
    assert hours[10] > 5 * hours[3]
    by_minute = np.bincount((created - created[0]) // 60_000_000)
    assert by_minute.max() > 20 * by_minute.mean()
    assert len(np.unique(created % 1_000_000)) > 0.9 * len(created)


def test_ids_include_the_first_bound_and_exclude_the_second(world: World) -> None:
    """Windows are half open and exact to the microsecond."""
    everyone = world.ids()
    first, last = world.created_at(everyone[10]), world.created_at(everyone[20])
    assert world.ids(created_after=first, created_before=last) == everyone[10:20]
    one_later = timedelta(microseconds=1)
    assert world.ids(created_after=first + one_later, created_before=last + one_later) == everyone[11:21]


def test_no_conversation_exists_before_its_creation(world: World) -> None:
    """Future conversations are neither listed nor found."""
    everyone = world.ids()
    now = world.created_at(everyone[100])
    assert world.ids(now=now) == everyone[:101]
    assert world.conversation(everyone[100], now=now) is not None
    assert world.conversation(everyone[101], now=now) is None


def test_every_conversation_is_in_exactly_one_status(world: World, start: datetime) -> None:
    """The statuses partition the world at any time."""
    now = start + timedelta(days=3, hours=11)
    divided = [world.ids(status=status, now=now) for status in ("queued", "started", "ended")]
    assert sorted(id for ids in divided for id in ids) == sorted(world.ids(now=now))
    for status, ids in zip(("queued", "started", "ended"), divided, strict=True):
        for id in ids[:20]:
            conversation = world.conversation(id, now=now)
            assert conversation is not None
            assert conversation["status"] == status


def test_a_deleted_conversation_keeps_its_creation_time(world: World) -> None:
    """All other conversations stay."""
    everyone = world.ids()
    gone = everyone[50]
    created_at = world.created_at(gone)
    world.delete(gone)
    assert world.ids() == everyone[:50] + everyone[51:]
    assert world.conversation(gone) is None
    assert world.created_at(gone) == created_at
    assert world.conversation(everyone[51]) is not None
    with pytest.raises(KeyError):
        world.delete(gone)


def test_an_inserted_conversation_is_like_the_others(world: World, start: datetime) -> None:
    """It is listed by its creation time, after others with the same time."""
    everyone = world.ids()
    moment = world.created_at(everyone[50])
    inserted = world.insert(created_at=moment)
    assert world.ids() == [*everyone[:51], inserted, *everyone[51:]]
    assert world.created_at(inserted) == moment
    conversation = world.conversation(inserted)
    assert conversation is not None
    assert conversation["id"] == inserted
    assert world.insert(created_at=moment) != inserted
    world.insert(created_at=start - timedelta(days=500))


def test_unknown_ids_are_not_found(world: World) -> None:
    """Ids of another world and invalid ids are not found."""
    unknown = World(seed=8, conversations=1).ids()[0]
    for id in (unknown, "", "nonsense", unknown.upper(), unknown.replace("-", "")):
        assert world.conversation(id) is None
        with pytest.raises(KeyError):
            world.created_at(id)


def test_naive_times_are_refused(world: World) -> None:
    """A time needs a time zone."""
    with pytest.raises(ValueError, match="time zone"):
        world.ids(created_after=datetime(2026, 11, 2))  # noqa: DTZ001


def test_a_world_of_200_000_conversations_is_fast_and_small(start: datetime) -> None:
    """A large world costs little time and a few megabytes, because only times are held."""
    world = World(conversations=200_000, start=start)
    population = world.population
    held = sum(getattr(population, name).nbytes for name in type(population).__slots__)
    assert held < 40 * 200_000
    ids = world.ids()
    assert len(set(ids)) == 200_000
    sample = world.write(population, np.arange(150_000, 150_100), now=2**62)
    assert 3_000 < sum(map(len, sample)) / len(sample) < 5_500
    assert hashlib.sha256(sample[0]).digest() != hashlib.sha256(sample[1]).digest()
