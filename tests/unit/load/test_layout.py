"""Names of files, and rejected paths."""

import pytest

from tests.support.exporting import DAY, ENCODINGS
from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.interval import Interval
from voiceos_provider.load.files import layout
from voiceos_provider.load.files.formats import Encoding


def test_names_contain_only_the_interval():
    """They have no run, attempt or time of day, so a repeated run replaces its own files."""
    assert layout.data("conversations", DAY, ".parquet") == (
        "conversations/conversations_20261101T000000Z_20261102T000000Z.parquet"
    )
    assert layout.manifest(DAY) == "_manifests/20261101T000000Z_20261102T000000Z.json"
    assert layout.rejected(DAY) == "_rejected/20261101T000000Z_20261102T000000Z.jsonl"


def test_intervals_that_differ_by_a_microsecond_have_different_names():
    """No name is a prefix of another."""
    later = Interval.parse("2026-11-01T00:00:00.000001Z", "2026-11-02T00:00:00Z")
    longer = Interval.parse("2026-11-01T00:00:00Z", "2026-11-02T00:00:00.500000Z")
    names = [layout.data("conversations", interval, "") for interval in (DAY, later, longer)]
    assert len({*names}) == 3
    assert not any(one.startswith(two) for one in names for two in names if one != two)


def test_names_are_the_same_in_every_time_zone():
    """Only the instants of the interval count."""
    zoned = Interval.parse("2026-11-01T05:30:00+05:30", "2026-11-01T19:00:00-05:00")
    assert layout.manifest(zoned) == layout.manifest(DAY)


def test_suffix_gives_the_format_and_the_compression():
    """DuckDB, Spark and pandas recognize these suffixes."""
    assert [encoding.suffix for encoding in ENCODINGS] == [
        *[".parquet"] * 4,
        ".jsonl", ".jsonl.gz", ".jsonl.zst",
        ".csv", ".csv.gz", ".csv.zst",
    ]  # fmt: skip


def test_list_of_suffixes_includes_every_format():
    """Cleaning up considers every file that an export may have written."""
    assert set(Encoding.suffixes()) == {encoding.suffix for encoding in ENCODINGS}


@pytest.mark.parametrize(
    "path",
    [
        "/data/voiceos",
        "/data/voiceos/",
        "file:///data/voiceos",
        "s3://bucket",
        "s3://bucket/",
        "s3://bucket/voiceos/eu-west 1",
        "s3://aws_default@bucket/voiceos",
        "abfs://container@account.dfs.core.windows.net/voiceos",
        "gs://bucket/dots...in.names/..hidden",
        "memory://voiceos",
    ],
)
def test_absolute_paths_and_urls_are_accepted(path: str):
    """Any store is allowed, with or without a folder or a final slash."""
    layout.require_safe(path)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("voiceos/exports", "is relative; write an absolute one or a URL"),
        ("./voiceos", "is relative"),
        ("~/voiceos", "is relative"),
        ("", "is relative"),
        ("s3:/bucket/voiceos", "is relative"),
        ("C:/voiceos", "is relative"),
        ("://bucket/voiceos", "is relative"),
        ("/", "has no folder or bucket to write to"),
        ("file:///", "has no folder or bucket to write to"),
        ("s3://", "has no folder or bucket to write to"),
        ("s3://bucket/../other", "has the step '..'; check the template."),
        ("/data/../etc", "has the step '..'"),
        ("/data/./voiceos", "has the step '.'"),
        ("s3://bucket//voiceos", "has the step ''"),
        ("s3://bucket/None/voiceos", "has the step 'None'"),
        ("s3://None/voiceos", "has the step 'None'"),
        ("s3://bucket/a\nb", "holds a control character"),
        ("s3://bucket/a\x00b", "holds a control character"),
        ("s3://bucket/a\x7f", "holds a control character"),
    ],
)
def test_unsafe_path_is_rejected_with_the_reason(path: str, says: str):
    """A template may render to an empty text or to a parent directory."""
    with pytest.raises(VoiceOSValueError) as refusal:
        layout.require_safe(path)
    assert says in str(refusal.value)
    assert repr(path) in str(refusal.value)


def test_brackets_in_a_path_are_accepted():
    """A URL parser would take them for an invalid IPv6 address."""
    layout.require_safe("s3://bucket/[draft")
    layout.require_safe("s3://[draft/voiceos")
