"""The walk of one export: pages become rows, rows go to a target, the target gives a receipt."""

import itertools
import json
import logging
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

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
    export_pages,
    files_below,
    page,
    read_pages,
    truth,
)
from voiceos_provider.emulator import Emulator, Fault
from voiceos_provider.exceptions import VoiceOSContractError, VoiceOSExportError
from voiceos_provider.load.memory import MemoryDestination
from voiceos_provider.load.receipt import ExportReceipt

KEYS = [
    "interval_start", "interval_end", "status", "exported_at", "requests", "pages", "listed", "filtered", "pending",
    "pending_ids", "unfinished_ids", "carried", "gone", "abandoned", "resolved_ids", "rejected",
    "invalid_values", "undocumented_fields", "undocumented_values", "replaced_characters", "target", "exported",
    "duplicates", "files", "manifest", "rejected_file", "arguments", "removed_files", "tables",
]  # fmt: skip


@pytest.fixture
def emulator() -> Emulator:
    """Three days of conversations."""
    return emulate(600)


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What has been logged until now, at INFO or above, by anybody."""
    caplog.set_level(logging.INFO)
    return lambda: caplog.messages


def ticking(*seconds: float) -> Iterator[float]:
    """A clock that shows these seconds one after the other, and then the last one for ever."""
    yield from seconds
    while True:
        yield seconds[-1]


def test_every_conversation_of_the_interval_is_exported_and_no_other(emulator: Emulator, tmp_path: Path):
    """What the emulator says exists in the interval is what the receipt counts."""
    receipt = export_pages(read_pages(emulator), tmp_path)
    expected = truth(emulator)
    assert 100 < len(expected) < len(emulator.world)
    assert (receipt.listed, receipt.exported) == (len(expected), len(expected))
    assert receipt.pages == -(-len(expected) // 50)
    assert (receipt.interval_start, receipt.interval_end) == ("2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z")
    assert receipt.exported_at == "2026-11-22T12:00:00Z"


def test_addresses_may_be_whole_urls(emulator: Emulator, tmp_path: Path):
    """They are opaque, and kept as they came; of their rows nothing else changes."""
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
@pytest.mark.parametrize("edges", ["in", "out"])
def test_the_order_and_the_edges_of_a_listing_do_not_matter(tmp_path: Path, order: str, edges: str):
    """Whether the server counts an edge in or not, nobody on it is lost; whoever is listed beyond it is a guest."""
    counted = edges == "in"
    emulator = emulate(300, order=order, after_inclusive=counted, before_inclusive=counted)
    for edge in (DAY.start, DAY.end):
        emulator.world.insert(created_at=edge)
    target = MemoryDestination(columns=["id"])
    export_pages(read_pages(emulator), tmp_path, target=target)
    assert target.table is not None
    found = set(target.table.column("id").to_pylist())
    assert truth(emulator) <= found
    assert found - truth(emulator) <= set(
        emulator.world.ids(created_after=DAY.end, created_before=DAY.end + timedelta(microseconds=1))
    )


def test_several_states_are_filtered_here_and_the_rest_is_counted(tmp_path: Path):
    """The API can be asked for one state only."""
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


def test_a_conversation_without_a_state_is_in_none_that_was_asked_for(tmp_path: Path):
    """It is counted and named as one that has not ended, not lost."""
    pages = [page({"id": "a", "status": "ended"}, {"id": "b"}, {"id": "c", "status": "transferred"})]
    receipt = export_pages(pages, tmp_path, statuses=["ended"])
    assert (receipt.exported, receipt.filtered, receipt.pending) == (1, 0, 2)
    assert receipt.pending_ids == ["b", "c"]
    assert export_pages(pages, tmp_path / "queued", statuses=["queued"]).filtered == 3
    assert export_pages(pages, tmp_path / "all").exported == 3


def test_an_interval_without_conversations_is_an_export(emulator: Emulator, tmp_path: Path):
    """It has one page, no rows and a receipt."""
    receipt = export_pages(read_pages(emulator, QUIET_DAY), tmp_path, interval=QUIET_DAY)
    assert (receipt.pages, receipt.listed, receipt.exported) == (1, 0, 0)


def test_no_pages_at_all_are_an_export_too(tmp_path: Path):
    """Whoever reads the pages decides when there are enough."""
    assert export_pages([], tmp_path).pages == 0


def test_a_filter_that_keeps_nothing_is_an_export(emulator: Emulator, tmp_path: Path):
    """In every format, however many pages there were."""
    for encoding in ENCODINGS:
        receipt = export_pages(
            read_pages(emulator), tmp_path / encoding.suffix, statuses=["queued"], encoding=encoding
        )
        assert (receipt.exported, receipt.filtered) == (0, len(truth(emulator))), encoding


def test_a_server_that_ignores_the_window_is_found_out(emulator: Emulator, tmp_path: Path):
    """The message says what was asked for and what was seen; nothing is published."""
    emulator.faults.add(Fault.ignore_window())
    with pytest.raises(VoiceOSContractError) as failure:
        export_pages(read_pages(emulator), tmp_path)
    message = str(failure.value)
    assert "asked for conversations created in [2026-11-01T00:00:00Z, 2026-11-02T00:00:00Z)" in message
    assert "most of them started before, one at 2026-10-31T" in message
    assert "The server ignores created_after" in message
    assert not failure.value.retryable
    assert files_below(tmp_path) == {}


def test_a_window_that_is_ignored_in_the_middle_leaves_the_earlier_export_as_it_was(tmp_path: Path):
    """Every page is looked at, not only the first."""
    emulator = emulate(600, clock=lambda: DAY.end)
    export_pages(read_pages(emulator), tmp_path)
    before = files_below(tmp_path)
    emulator.faults.add(Fault.ignore_window(), at=range(emulator.faults.count("list") + 3, 10_000))
    with pytest.raises(VoiceOSContractError, match="ignores created_after"):
        export_pages(read_pages(emulator), tmp_path)
    assert files_below(tmp_path) == before


def test_a_conversation_may_start_before_its_creation_by_what_clocks_differ(tmp_path: Path):
    """An hour is allowed, and a second more is not."""
    start = DAY.start - timedelta(hours=1)
    export_pages([page({"id": "a", "started_at": start.isoformat()})], tmp_path)
    start -= timedelta(seconds=1)
    with pytest.raises(VoiceOSContractError, match="started before, one at 2026-10-31T22:59:59Z"):
        export_pages([page({"id": "a", "started_at": start.isoformat()})], tmp_path)


@pytest.mark.parametrize("odd", ["1970-01-01T00:00:00Z", "1900-01-01T00:00:00Z", "2026-10-01T00:00:00Z"])
def test_a_start_that_is_wrong_costs_no_interval(
    tmp_path: Path, logged: Callable[[], list[str]], odd: str
) -> None:
    """Wherever it stands, even on a page of its own; it is exported as it is, and counted in the log."""
    for at in (0, 10, 29):
        starts = [odd if nth == at else DAY.start.isoformat() for nth in range(30)]
        pages = [page({"id": f"{nth}", "started_at": start}) for nth, start in enumerate(starts)]
        target = MemoryDestination(columns=["started_at"])
        assert export_pages(pages, tmp_path, target=target).exported == 30
        assert target.table is not None
        assert datetime.fromisoformat(odd) in target.table.column("started_at").to_pylist()
    told = [line for line in logged() if "long before" in line]
    assert len(told) == 3
    assert told[0].endswith("kept as they are: 1.")


def test_the_last_conversation_may_be_the_odd_one(tmp_path: Path) -> None:
    """Behind a day of others, on a page of its own."""
    start = DAY.start.isoformat()
    pages = [page(*({"id": f"{n}-{m}", "started_at": start} for m in range(100))) for n in range(11)]
    odd = page({"id": "odd", "started_at": "2009-11-10T23:00:00Z"})
    receipt = export_pages([*pages, odd], tmp_path)
    assert receipt.exported == 1_101


def test_a_start_of_nobody_says_nothing_of_the_window(tmp_path: Path) -> None:
    """A program that knows no start may write its zero: every queued conversation then has one."""
    zeros = [page(*({"id": f"{n}", "started_at": "0001-01-01T00:00:00Z"} for n in range(30)))]
    assert export_pages(zeros, tmp_path).exported == 30


@pytest.mark.parametrize("size", [1, 7, 100])
def test_pages_that_run_on_into_an_earlier_time_are_found_out(tmp_path: Path, size: int) -> None:
    """A server that lists the newest first and heeds only the end shows it late, and by pages of any size."""
    hours = (DAY.end - timedelta(minutes=20 * nth) for nth in range(1, 121))
    items = [{"id": f"{nth}", "started_at": hour.isoformat()} for nth, hour in enumerate(hours)]
    pages = [page(*items[at : at + size]) for at in range(0, len(items), size)]
    with pytest.raises(VoiceOSContractError, match="most of them started before"):
        export_pages(pages, tmp_path)
    assert files_below(tmp_path) == {}


def test_a_conversation_may_start_long_after_its_interval(tmp_path: Path):
    """It was created in the interval and waited."""
    receipt = export_pages([page({"id": "a", "started_at": "9999-12-31T23:59:59Z"})], tmp_path)
    assert receipt.exported == 1


def test_characters_that_had_to_be_replaced_are_counted(emulator: Emulator, tmp_path: Path):
    """Half an emoji, cut off by a length limit, costs itself and is told."""
    body = b'{"items": [{"id": "a", "uri": "\\ud83d"}], "has_more": false}'
    emulator.faults.add(Fault.body(body))
    assert export_pages(read_pages(emulator), tmp_path).replaced_characters == 1


def test_values_of_another_kind_are_counted_by_column(tmp_path: Path):
    """The export goes on; the receipt says where to look."""
    pages = [page({"id": "a", "status": 7, "started_at": "soon"}), page({"id": "b", "status": []})]
    assert export_pages(pages, tmp_path).invalid_values == {"started_at": 1, "status": 2}


NEWS = {"mood": "good", "phone_call": {"from_number": "+15550100123", "carrier": "c"}}


def test_what_the_contract_does_not_know_is_kept_and_named_once(
    tmp_path: Path, logged: Callable[[], list[str]]
):
    """One line for all pages, and the receipt counts; the values themselves are in `extra` and in no log."""
    pages = [
        page({"id": f"{n}", "status": "transferred"} | NEWS, {"id": f"e{n}", "+15550100123": n})
        for n in range(4)
    ]
    receipt = export_pages(pages, tmp_path)
    assert receipt.undocumented_fields == {"*": 4, "mood": 4, "phone_call.carrier": 4}
    assert receipt.undocumented_values == {"conversations.status": ["transferred"]}
    (line,) = [line for line in logged() if "its contract" in line]
    assert line == (
        "The API sends what its contract does not know; it is kept: undocumented fields *, mood, phone_call.carrier; "
        "undocumented conversations.status: transferred."
    )
    assert "+1555" not in "\n".join(logged()) + json.dumps(receipt.as_dict())
    assert json.loads((tmp_path / MANIFEST).read_text())["undocumented_fields"] == receipt.undocumented_fields


def test_what_is_new_on_a_later_page_is_named_then(tmp_path: Path, logged: Callable[[], list[str]]):
    """A line tells only what no earlier line has told."""
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
def test_an_export_that_is_to_fail_for_news_fails_with_their_name_and_publishes_nothing(
    tmp_path: Path, odd: dict, named: str, at: int
):
    """At the first page or at a later one; the earlier export stands. A retry would not help."""
    export_pages([page({"id": "earlier"})], tmp_path, schema_drift="fail")
    before = files_below(tmp_path)
    pages = [page({"id": f"{n}"} | (odd if n == at else {})) for n in range(7)]
    with pytest.raises(VoiceOSContractError, match=named) as failure:
        export_pages(pages, tmp_path, schema_drift="fail")
    assert "schema_drift='keep' would export it all the same" in str(failure.value)
    assert not failure.value.retryable
    assert files_below(tmp_path) == before


def test_the_emulator_sends_nothing_that_the_contract_does_not_know(emulator: Emulator, tmp_path: Path):
    """Whoever asks to fail for news gets an export as long as there are none."""
    assert export_pages(read_pages(emulator), tmp_path, schema_drift="fail").exported == len(truth(emulator))


def receipts(tmp_path: Path) -> Iterator[ExportReceipt]:
    """Receipts of exports as different as they can be."""
    yield export_pages([], tmp_path)
    yield export_pages([page({"id": "a", "status": 1})], tmp_path / "ended", statuses=["ended"])
    yield export_pages([page({"id": "a"}, {})], tmp_path / "csv", max_bad_records=1, encoding=ENCODINGS[-1])
    yield export_pages([page({"id": "a"})], tmp_path, target=MemoryDestination())


def test_a_receipt_has_always_the_same_keys_and_is_plain_json(tmp_path: Path):
    """Whoever reads it from XCom need not ask whether a key is there."""
    for receipt in receipts(tmp_path):
        told = receipt.as_dict()
        assert sorted(told) == sorted(KEYS)
        assert json.loads(json.dumps(told, allow_nan=False)) == told
        for file in told["files"]:
            assert list(file) == ["table", "path", "rows", "bytes", "sha256", "schema_fingerprint"]


def test_a_receipt_always_adds_up(tmp_path: Path):
    """Listed = exported + duplicates + filtered + pending + rejected."""
    for r in receipts(tmp_path):
        assert r.listed == r.exported + r.duplicates + r.filtered + r.pending + r.rejected


def test_the_log_has_one_short_line_for_each_table_and_names_only_what_happened(tmp_path: Path):
    """Counts of nothing are left out."""
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


def test_there_is_one_line_at_the_start_and_one_at_the_end(
    emulator: Emulator, tmp_path: Path, logged: Callable[[], list[str]]
):
    """The first says what, which interval and where to; the last is the receipt."""
    receipt = export_pages(read_pages(emulator), tmp_path, statuses=["ended", "started"])
    assert logged()[0] == (
        "Exporting conversations created in [2026-11-01T00:00:00Z, 2026-11-02T00:00:00Z) "
        f"with status ended or started to {tmp_path}."
    )
    assert logged()[1:] == list(receipt.log_lines())


def test_progress_is_told_every_ten_seconds(tmp_path: Path, logged: Callable[[], list[str]]):
    """How many, and how fast; not a line for every page."""
    numbers = itertools.count()
    pages = [page(*({"id": f"{next(numbers)}"} for _ in range(1_000))) for _ in range(6)]
    clock = ticking(100.0, 104.0, 110.0, 111.0, 119.9, 120.0, 121.0)
    export_pages(pages, tmp_path, monotonic=lambda: next(clock))
    assert logged()[1:3] == [
        "2,000 conversations on 2 pages so far, 200 a second.",
        "5,000 conversations on 5 pages so far, 250 a second.",
    ]


def test_a_clock_that_stands_still_is_no_division_by_zero(tmp_path: Path, logged: Callable[[], list[str]]):
    """Nothing is told, for no time has passed."""
    export_pages([page({"id": "a"})], tmp_path, monotonic=lambda: 7.0)
    assert not [line for line in logged() if "so far" in line]


def test_no_line_and_no_manifest_repeats_what_people_said(
    emulator: Emulator, tmp_path: Path, logged: Callable[[], list[str]]
):
    """No telephone number, no message, no prompt and no token."""
    clock = itertools.count(0, 11)
    receipt = export_pages(read_pages(emulator), tmp_path, monotonic=lambda: float(next(clock)))
    told = "\n".join(logged()) + json.dumps(receipt.as_dict()) + (tmp_path / MANIFEST).read_text()
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
    assert [secret for secret in secrets if secret and secret in told] == []


def test_an_error_repeats_nothing_that_people_said(tmp_path: Path, logged: Callable[[], list[str]]):
    """What is rejected stands in its file and nowhere else."""
    said = {
        "messages": [{"content": "my number is +15550100123"}],
        "phone_call": {"from_number": "+15550100"},
    }
    with pytest.raises(VoiceOSExportError) as failure:
        export_pages([page(said)], tmp_path)
    assert "+1555" not in str(failure.value) + "\n".join(logged())


def test_the_webhooks_secrets_do_not_reach_the_file(emulator: Emulator, tmp_path: Path):
    """Headers are masked in every format."""
    for encoding in ENCODINGS[3:5] + ENCODINGS[7:8]:
        export_pages(read_pages(emulator), tmp_path, encoding=encoding, replace_existing=True)
        assert b"emulated-secret" not in (tmp_path / f"{DATA}{encoding.suffix}").read_bytes()
