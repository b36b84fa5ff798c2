"""One export: the server is checked, pages become rows, rows are published, and a receipt counts them."""

import itertools
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.json import encode

from tests.support.exporting import (
    DATA,
    DAY,
    ENCODINGS,
    MANIFEST,
    NOW,
    QUIET_DAY,
    emulate,
    export_options,
    export_pages,
    files_below,
    page,
    read_pages,
    truth,
)
from voiceos_provider.client import ClientConfig, VoiceOSClient
from voiceos_provider.emulator import Emulator, Fault
from voiceos_provider.exceptions import (
    VoiceOSContractError,
    VoiceOSDestinationError,
    VoiceOSExportError,
    VoiceOSValueError,
)
from voiceos_provider.interval import Interval
from voiceos_provider.load.files.destination import FilesDestination, FilesWriter
from voiceos_provider.load.memory import MemoryDestination
from voiceos_provider.load.receipt import ExportReceipt
from voiceos_provider.pipeline.run import read_interval, run_export

KEYS = [
    "interval_start", "interval_end", "status", "exported_at", "requests", "pages", "listed", "filtered", "pending",
    "pending_ids", "unfinished_ids", "carried", "gone", "abandoned", "resolved_ids", "rejected",
    "invalid_values", "undocumented_fields", "undocumented_values", "replaced_characters", "cost",
    "duration_seconds", "target", "exported", "duplicates",
    "files", "manifest", "rejected_file", "arguments", "removed_files", "tables", "lock_wait_seconds",
]  # fmt: skip


@pytest.fixture
def emulator() -> Emulator:
    """Serve three days of conversations."""
    return emulate(600)


def connected(emulator: Emulator, **options: Any) -> VoiceOSClient:
    """Return a client of the emulator that never waits."""
    config = ClientConfig(token=emulator.token, base_url="http://emulator", page_size=50)
    return VoiceOSClient(config, transport=emulator.transport(), sleep=lambda _: None, **options)


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return a function that returns the messages logged until now, at INFO or above."""
    caplog.set_level(logging.INFO)
    return lambda: caplog.messages


def ticking(*seconds: float) -> Iterator[float]:
    """Yield these seconds one after the other, and then the last one for ever."""
    yield from seconds
    while True:
        yield seconds[-1]


def test_every_conversation_of_the_interval_is_exported_and_no_other(emulator: Emulator, tmp_path: Path):
    """The receipt counts the conversations that the emulator has in the interval."""
    receipt = export_pages(read_pages(emulator), tmp_path)
    expected = truth(emulator)
    assert 100 < len(expected) < len(emulator.world)
    assert (receipt.listed, receipt.exported) == (len(expected), len(expected))
    assert receipt.pages == -(-len(expected) // 50)
    assert (receipt.interval_start, receipt.interval_end) == ("2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z")
    assert receipt.exported_at == "2026-11-22T12:00:00Z"


def test_uris_may_be_whole_urls(emulator: Emulator, tmp_path: Path):
    """They are opaque and kept as sent; nothing else in their rows changes."""
    items = [json.loads(encode(item)) for read in read_pages(emulator) for item in read.items]
    tables = []
    for root in ("", "https://api.voiceos.io"):
        pages = [page(*({**item, "uri": f"{root}{item['uri']}"} for item in items))]
        target = MemoryDestination()
        receipt = export_pages(pages, tmp_path, target=target)
        assert receipt.invalid_values == {}
        assert target.table is not None
        tables.append(target.table)
    paths, urls = (table.column("uri").to_pylist() for table in tables)
    assert urls == [f"https://api.voiceos.io{path}" for path in paths]
    assert tables[0].drop_columns(["uri"]).equals(tables[1].drop_columns(["uri"]))


@pytest.mark.parametrize("order", ["created_desc", "created_asc", "updated_desc"])
@pytest.mark.parametrize("bounds", ["inclusive", "exclusive"])
def test_order_and_inclusive_bounds_of_a_listing_do_not_matter(tmp_path: Path, order: str, bounds: str):
    """A conversation created at a bound is never lost; one at the exclusive end may be listed, too."""
    inclusive = bounds == "inclusive"
    emulator = emulate(300, order=order, after_inclusive=inclusive, before_inclusive=inclusive)
    for bound in (DAY.start, DAY.end):
        emulator.world.insert(created_at=bound)
    target = MemoryDestination(columns=["id"])
    export_pages(read_pages(emulator), tmp_path, target=target)
    assert target.table is not None
    found = set(target.table.column("id").to_pylist())
    assert truth(emulator) <= found
    assert found - truth(emulator) <= set(
        emulator.world.ids(created_after=DAY.end, created_before=DAY.end + timedelta(microseconds=1))
    )


def test_several_states_are_filtered_by_the_client_and_the_rest_is_counted(tmp_path: Path):
    """The API filters by one state only."""
    noon = DAY.start + timedelta(hours=12)
    emulator = emulate(9_000, clock=lambda: noon)
    target = MemoryDestination(columns=["id", "status"])
    receipt = export_pages(read_pages(emulator), tmp_path, target=target, statuses=["started", "queued"])
    assert target.table is not None
    among = {"created_after": DAY.start, "created_before": DAY.end, "now": noon}
    ended, started, queued = (emulator.world.ids(status=s, **among) for s in ("ended", "started", "queued"))
    assert {*target.table.column("id").to_pylist()} == {*started, *queued}
    assert receipt.exported == len(started) + len(queued) > 0
    assert receipt.filtered == len(ended) > 0
    assert receipt.status == ["queued", "started"]


def test_a_conversation_without_a_documented_state_is_pending(tmp_path: Path):
    """It may end later, so it is counted and named, and not lost."""
    pages = [page({"id": "a", "status": "ended"}, {"id": "b"}, {"id": "c", "status": "transferred"})]
    receipt = export_pages(pages, tmp_path, statuses=["ended"])
    assert (receipt.exported, receipt.filtered, receipt.pending) == (1, 0, 2)
    assert receipt.pending_ids == ["b", "c"]
    assert export_pages(pages, tmp_path / "queued", statuses=["queued"]).filtered == 3
    assert export_pages(pages, tmp_path / "all").exported == 3


def test_an_interval_without_conversations_is_an_export(emulator: Emulator, tmp_path: Path):
    """It has a request, no pages, no rows and a receipt."""
    receipt = export_pages(read_pages(emulator, QUIET_DAY), tmp_path, interval=QUIET_DAY)
    assert (receipt.requests, receipt.pages, receipt.listed, receipt.exported) == (1, 0, 0, 0)


def test_an_export_without_pages_has_a_receipt(tmp_path: Path):
    """The destination is opened and published all the same."""
    assert export_pages([], tmp_path).pages == 0


def test_a_filter_that_keeps_nothing_is_an_export(emulator: Emulator, tmp_path: Path):
    """This holds in every format, for any number of pages."""
    for encoding in ENCODINGS:
        receipt = export_pages(
            read_pages(emulator), tmp_path / encoding.suffix, statuses=["queued"], encoding=encoding
        )
        assert (receipt.exported, receipt.filtered) == (0, len(truth(emulator))), encoding


@pytest.mark.parametrize("bound", ["created_after", "created_before"])
@pytest.mark.parametrize("read_strategy", ["windows", "pages"])
def test_a_server_that_ignores_a_bound_is_detected_before_anything_is_read(
    tmp_path: Path, bound: Any, read_strategy: Any
) -> None:
    """One request proves it. The earlier export of the interval stays as it was."""
    options = export_options(read_strategy=read_strategy)
    destination = FilesDestination(tmp_path, encoding=ENCODINGS[0])
    with connected(emulate(600)) as client:
        run_export(client, destination, options)
    before = files_below(tmp_path)
    emulator = emulate(600)
    emulator.faults.add(Fault.ignore_window(bound))
    for reading in (
        lambda: run_export(client, destination, options),
        lambda: next(read_interval(client, options)),
    ):
        with (
            connected(emulator) as client,
            pytest.raises(VoiceOSContractError, match="ignores created_after or created_before") as failure,
        ):
            reading()
        assert not failure.value.retryable
    assert len(emulator.requests) == 2
    assert files_below(tmp_path) == before


def test_an_export_of_a_server_holds_the_interval(emulator: Emulator, tmp_path: Path) -> None:
    """The receipt adds up, and pages read without a destination hold the same conversations."""
    with connected(emulator) as client:
        receipt = run_export(client, FilesDestination(tmp_path, encoding=ENCODINGS[0]), export_options())
        ids = [id_ for read in read_interval(client, export_options()) for id_ in read.ids]
    assert receipt.listed == receipt.exported == len(truth(emulator))
    assert sorted(str(id_) for id_ in ids) == sorted(truth(emulator))


def test_reading_starts_when_the_visibility_delay_has_passed(tmp_path: Path) -> None:
    """The wait comes before the destination is opened, and `exported_at` is not before the end of the wait."""
    now = datetime.now(UTC)
    interval = Interval(now - timedelta(hours=1), now)
    options = export_options(interval, visibility_delay=timedelta(minutes=2))
    waits: list[float] = []
    ends: list[datetime] = []
    emulator = emulate(100, clock=lambda: datetime.now(UTC))
    with connected(emulator) as client:

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            assert files_below(tmp_path) == {}
            assert len(emulator.requests) == 1
            time.sleep(0.01)
            ends.append(datetime.now(UTC))

        destination = FilesDestination(tmp_path, encoding=ENCODINGS[0])
        receipt = run_export(client, destination, options, sleep=sleep)
        next(read_interval(client, options, sleep=waits.append), None)
    assert datetime.fromisoformat(receipt.exported_at) >= ends[0]
    assert len(waits) == 2
    assert all(100 < wait < 122 for wait in waits)  # the server's clock shows whole seconds


def test_an_interval_in_the_future_is_refused_before_a_request(emulator: Emulator) -> None:
    """Both ways of reading an interval refuse it."""
    now = datetime.now(UTC)
    options = export_options(Interval(now, now + timedelta(days=2)))
    with connected(emulator) as client:
        with pytest.raises(VoiceOSValueError, match="is in the future"):
            run_export(client, MemoryDestination(), options)
        with pytest.raises(VoiceOSValueError, match="is in the future"):
            next(read_interval(client, options))
    assert emulator.requests == []


@pytest.mark.parametrize("early", ["1970-01-01T00:00:00Z", "1900-01-01T00:00:00Z", "2026-10-01T00:00:00Z"])
@pytest.mark.parametrize("at", [0, 10, 29])
def test_conversations_that_started_long_before_their_interval_are_kept_and_counted(
    tmp_path: Path, logged: Callable[[], list[str]], early: str, at: int
) -> None:
    """Imported or backdated conversations are exported as sent, whatever page they are on."""
    starts = [early if nth in (at, at - 1) else DAY.start.isoformat() for nth in range(30)]
    pages = [page({"id": f"{nth}", "started_at": start}) for nth, start in enumerate(starts)]
    target = MemoryDestination(columns=["started_at"])
    assert export_pages(pages, tmp_path, target=target).exported == 30
    assert target.table is not None
    assert datetime.fromisoformat(early) in target.table.column("started_at").to_pylist()
    (line,) = [line for line in logged() if "started over an hour before" in line]
    assert line.endswith(f"before their interval: {starts.count(early)} (kept as sent).")


def test_every_conversation_may_have_started_long_before(tmp_path: Path) -> None:
    """The start of a conversation proves nothing about the bounds that the server applied."""
    pages = [page({"id": f"{nth}", "started_at": "2009-11-10T23:00:00Z"}) for nth in range(30)]
    assert export_pages(pages, tmp_path).exported == 30


def test_a_conversation_may_start_an_hour_before_its_interval(
    tmp_path: Path, logged: Callable[[], list[str]]
) -> None:
    """Clocks differ; only an earlier start is worth a warning."""
    for seconds, warnings in ((3_600, 0), (3_601, 1)):
        start = DAY.start - timedelta(seconds=seconds)
        export_pages([page({"id": "a", "started_at": start.isoformat()})], tmp_path)
        assert sum("over an hour before" in line for line in logged()) == warnings


def test_a_start_in_the_year_1_is_no_start(tmp_path: Path, logged: Callable[[], list[str]]) -> None:
    """It is the zero of some languages, which every queued conversation may have."""
    zeros = [page(*({"id": f"{n}", "started_at": "0001-01-01T00:00:00Z"} for n in range(30)))]
    assert export_pages(zeros, tmp_path).exported == 30
    assert not [line for line in logged() if "over an hour before" in line]


def test_a_conversation_may_start_long_after_its_interval(tmp_path: Path):
    """It was created in the interval and waited."""
    receipt = export_pages([page({"id": "a", "started_at": "9999-12-31T23:59:59Z"})], tmp_path)
    assert receipt.exported == 1


def test_replaced_characters_are_counted(tmp_path: Path):
    """Half an emoji, cut off by a length limit, becomes U+FFFD; its conversation is exported."""
    receipt = export_pages([page({"id": "a", "uri": "\ud83d"})], tmp_path)
    assert (receipt.exported, receipt.replaced_characters) == (1, 1)


def test_values_of_another_type_are_counted_by_column(tmp_path: Path):
    """The export continues; the receipt names the columns."""
    pages = [page({"id": "a", "status": 7, "started_at": "soon"}), page({"id": "b", "status": []})]
    assert export_pages(pages, tmp_path).invalid_values == {"started_at": 1, "status": 2}


UNDOCUMENTED = {"mood": "good", "phone_call": {"from_number": "+15550100123", "carrier": "c"}}


def test_undocumented_fields_and_values_are_kept_and_named_once(
    tmp_path: Path, logged: Callable[[], list[str]]
):
    """There is one line for all pages, and the receipt counts. The values are in `extra`, and in no log."""
    pages = [
        page({"id": f"{n}", "status": "transferred"} | UNDOCUMENTED, {"id": f"e{n}", "+15550100123": n})
        for n in range(4)
    ]
    receipt = export_pages(pages, tmp_path)
    assert receipt.undocumented_fields == {"*": 4, "mood": 4, "phone_call.carrier": 4}
    assert receipt.undocumented_values == {"conversations.status": ["transferred"]}
    (line,) = [line for line in logged() if "its contract" in line]
    assert line == (
        "Schema drift: the API sends what its contract does not document; it is kept: undocumented fields *, mood, "
        "phone_call.carrier; undocumented conversations.status: transferred."
    )
    assert "+1555" not in "\n".join(logged()) + json.dumps(receipt.as_dict())
    assert json.loads((tmp_path / MANIFEST).read_text())["undocumented_fields"] == receipt.undocumented_fields


def test_drift_on_a_later_page_is_named_then(tmp_path: Path, logged: Callable[[], list[str]]):
    """A line names only what no earlier line has named."""
    many = [{"id": f"{n}"} for n in range(1_000)]
    pages = [
        page({"id": "a", "mood": 1}),
        page({"id": "b", "mood": 2, "tone": 3}, *many),
        page({"id": "c", "tone": 4}),
    ]
    receipt = export_pages(pages, tmp_path)
    lines = [line.rpartition(": ")[2] for line in logged() if "its contract" in line]
    assert lines == ["undocumented fields mood.", "undocumented fields tone."]
    assert receipt.undocumented_fields == {"mood": 2, "tone": 2}


@pytest.mark.parametrize(
    ("odd", "named"),
    [
        ({"mood": "good"}, "undocumented fields mood"),
        (
            {"messages": [{"role": "user", "content": "x", "mood": 1}]},
            r"undocumented fields messages\.\[\]\.mood",
        ),
        ({"status": "transferred"}, r"undocumented conversations\.status: transferred"),
        ({"status": 7}, "invalid values in status"),
    ],
)
@pytest.mark.parametrize("at", [0, 5])
def test_schema_drift_fail_names_the_drift_and_publishes_nothing(
    tmp_path: Path, odd: dict, named: str, at: int
):
    """The drift may be on the first page or a later one. The earlier export stays; the error is non-retryable."""
    export_pages([page({"id": "earlier"})], tmp_path, schema_drift="fail")
    before = files_below(tmp_path)
    pages = [page({"id": f"{n}"} | (odd if n == at else {})) for n in range(7)]
    with pytest.raises(VoiceOSContractError, match=named) as failure:
        export_pages(pages, tmp_path, schema_drift="fail")
    assert "Set schema_drift='keep' to export it all the same." in str(failure.value)
    assert not failure.value.retryable
    assert files_below(tmp_path) == before


def test_the_emulator_sends_nothing_undocumented(emulator: Emulator, tmp_path: Path):
    """`schema_drift="fail"` exports what the contract documents."""
    assert export_pages(read_pages(emulator), tmp_path, schema_drift="fail").exported == len(truth(emulator))


def receipts(tmp_path: Path) -> Iterator[ExportReceipt]:
    """Yield receipts of exports that differ as much as they can."""
    yield export_pages([], tmp_path)
    yield export_pages([page({"id": "a", "status": 1})], tmp_path / "ended", statuses=["ended"])
    yield export_pages([page({"id": "a"}, {})], tmp_path / "csv", max_bad_records=1, encoding=ENCODINGS[-1])
    yield export_pages([page({"id": "a"})], tmp_path, target=MemoryDestination())


def test_a_receipt_always_has_the_same_keys_and_is_plain_json(tmp_path: Path):
    """A reader of the XCom never has to check whether a key exists."""
    for receipt in receipts(tmp_path):
        plain = receipt.as_dict()
        assert sorted(plain) == sorted(KEYS)
        assert json.loads(json.dumps(plain, allow_nan=False)) == plain
        for file in plain["files"]:
            assert list(file) == ["table", "path", "rows", "bytes", "sha256", "schema_fingerprint"]


def test_a_receipt_always_adds_up(tmp_path: Path):
    """Listed = exported + duplicates + filtered + pending + rejected."""
    for r in receipts(tmp_path):
        assert r.listed == r.exported + r.duplicates + r.filtered + r.pending + r.rejected


def test_the_log_has_one_line_per_table_and_no_zero_counts(tmp_path: Path):
    """Counts of zero are left out."""
    pages = [page({"id": "a", "status": "queued"}, {"id": "a", "status": "ended", "uri": 1}, {"id": "b"}, {})]
    receipt = export_pages(pages, tmp_path, statuses=["ended"], max_bad_records=1)
    first, counts, *lines = receipt.log_lines()
    assert first == f"Exported 1 conversations to {tmp_path}."
    assert counts == "Of 4 listed: 1 exported, 1 pending, 1 duplicates, 1 rejected, 1 invalid values."
    assert lines == [
        *(f"{file.table}: {file.rows:,} rows in {file.path}" for file in receipt.files),
        f"Rejected conversations: {receipt.rejected_file}",
        f"Manifest: {receipt.manifest}",
    ]
    plain = export_pages([page({"id": "a"})], tmp_path, target=MemoryDestination())
    assert list(plain.log_lines()) == ["Exported 1 conversations to memory.", "Of 1 listed: 1 exported."]


def test_the_log_has_a_line_at_the_start_and_the_receipt_at_the_end(
    emulator: Emulator, tmp_path: Path, logged: Callable[[], list[str]]
):
    """The first line names interval and destination."""
    receipt = export_pages(read_pages(emulator), tmp_path, statuses=["ended", "started"])
    assert logged()[0] == (
        f"Exporting conversations created in [2026-11-01T00:00:00Z, 2026-11-02T00:00:00Z) to {tmp_path}."
    )
    assert logged()[1:] == list(receipt.log_lines())


def test_progress_is_logged_every_ten_seconds(tmp_path: Path, logged: Callable[[], list[str]]):
    """A line says how many and how fast; most pages have none."""
    numbers = itertools.count()
    pages = [page(*({"id": f"{next(numbers)}"} for _ in range(1_000))) for _ in range(6)]
    clock = ticking(100.0, 104.0, 110.0, 111.0, 119.9, 120.0, 121.0)
    export_pages(pages, tmp_path, monotonic=lambda: next(clock))
    assert logged()[1:3] == [
        "Read 2,000 conversations on 2 pages, 200 per second.",
        "Read 5,000 conversations on 5 pages, 250 per second.",
    ]


def test_a_clock_that_does_not_advance_logs_no_progress(tmp_path: Path, logged: Callable[[], list[str]]):
    """It does not divide by zero either."""
    export_pages([page({"id": "a"})], tmp_path, monotonic=lambda: 7.0)
    assert not [line for line in logged() if "per second" in line]


def test_no_log_line_and_no_manifest_holds_personal_data(
    emulator: Emulator, tmp_path: Path, logged: Callable[[], list[str]]
):
    """They hold no phone number, message, prompt, header or token."""
    clock = itertools.count(0, 11)
    receipt = export_pages(read_pages(emulator), tmp_path, monotonic=lambda: float(next(clock)))
    written = "\n".join(logged()) + json.dumps(receipt.as_dict()) + (tmp_path / MANIFEST).read_text()
    secrets = {emulator.token}
    for id_ in truth(emulator):
        conversation = emulator.world.conversation(id_, now=NOW)
        assert conversation is not None
        secrets |= {message["content"] for message in conversation["messages"]}
        secrets |= {conversation["agent_config"]["prompt"], id_}
        for webhook in conversation["agent_config"]["webhooks"]:
            secrets |= set(webhook["headers"].values())
        if call := conversation.get("phone_call"):
            secrets |= {call["from_number"], call["to_number"]}
    assert len(logged()) > 3
    assert len(secrets) > 100
    assert [secret for secret in secrets if secret and secret in written] == []


def test_an_error_holds_no_personal_data(tmp_path: Path, logged: Callable[[], list[str]]):
    """A rejected conversation is in its file, and nowhere else."""
    conversation = {
        "messages": [{"content": "my number is +15550100123"}],
        "phone_call": {"from_number": "+15550100"},
    }
    with pytest.raises(VoiceOSExportError) as failure:
        export_pages([page(conversation)], tmp_path)
    assert "+1555" not in str(failure.value) + "\n".join(logged())


def test_secrets_of_webhooks_do_not_reach_the_files(emulator: Emulator, tmp_path: Path):
    """Headers are masked in every format."""
    for encoding in ENCODINGS[3:5] + ENCODINGS[7:8]:
        export_pages(read_pages(emulator), tmp_path, encoding=encoding, replace_existing=True)
        assert b"emulated-secret" not in (tmp_path / f"{DATA}{encoding.suffix}").read_bytes()


def test_no_thread_outlives_an_export_that_cannot_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The error is kept, and with it the frames that read: a task logs it and runs callbacks."""

    def fail(*_: object) -> None:
        raise VoiceOSDestinationError("no room")

    monkeypatch.setattr(FilesWriter, "write", fail)
    emulator = emulate(6_000, clock=lambda: datetime.now(UTC))
    destination = FilesDestination(tmp_path, encoding=ENCODINGS[0])
    before = threading.enumerate()
    with connected(emulator) as client, pytest.raises(VoiceOSDestinationError, match="no room") as caught:
        run_export(client, destination, export_options())
    assert caught.tb is not None
    new = [thread.name for thread in threading.enumerate() if thread not in before]
    assert not any(name.startswith("voiceos-worker") for name in new)
