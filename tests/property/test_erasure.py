"""Erasure from files as a property: erased conversations are gone, and all others remain.

Hypothesis draws the conversations of three days, how they are exported, and which of them are erased. Every text of a
conversation contains a token of its own, which is searched in every byte, also of what is compressed.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.support.conversations import conversation
from tests.support.erasing import find_below
from tests.support.exporting import DAY, ENCODINGS, NOW, export_pages, files_below, page
from voiceos_provider.interval import Interval
from voiceos_provider.load.coverage import compute_coverage
from voiceos_provider.load.erasure import OWNERS, Erased
from voiceos_provider.load.files.destination import FilesDestination
from voiceos_provider.load.files.erasure import ErasableFiles
from voiceos_provider.load.files.formats import Encoding
from voiceos_provider.load.files.manifests import Manifests
from voiceos_provider.load.files.rewriting import read_values
from voiceos_provider.load.files.store import Store
from voiceos_provider.load.pending import PendingConversations
from voiceos_provider.transform import TABLES, Redaction

DAYS = [Interval(DAY.start + timedelta(days=n), DAY.end + timedelta(days=n)) for n in range(3)]
KEY = "a secret of the tests"
REDACTIONS = [
    Redaction(),
    Redaction(phone_numbers="hash", metadata="hash", hash_key=KEY),
    Redaction(phone_numbers="drop", messages="drop", prompts="drop", metadata="drop"),
    Redaction(prompts="drop"),
]
ODD = st.text(st.sampled_from("aé\"'\\,\n\r\t;|{}[] 日👋"), max_size=6)


@dataclass(frozen=True)
class Call:
    """A conversation that Hypothesis drew.

    :param config: the number of its configuration, which others may share
    """

    number: int
    day: int
    config: int
    status: str
    odd: str
    is_erased: bool

    @property
    def token(self) -> str:
        """Return the text that is part of its id and of all its texts."""
        return f"call-{self.number:03}-"

    def as_sent(self) -> dict[str, Any]:
        """Return the conversation as the API sends it."""
        text = f"{self.token}{self.odd}"
        started = DAYS[self.day].start + timedelta(hours=10, seconds=self.number)
        made = conversation(
            text, said=(text, f"{self.odd}{text}"), started_at=started.isoformat(), uri=f"/{text}"
        )
        made["phone_call"] |= {"from_number": f"{self.token}+15550{self.number:06}", "note": text}
        made["transcript"] = {"summary": text}
        made["agent_config"] |= {
            "prompt": f"config-{self.config:03}-{self.odd if self.config == self.number else ''}",
            "metadata": {"customer": f"config-{self.config:03}-"},
        }
        made["status"] = self.status
        if self.status != "ended":
            made |= {"ended_at": None, "cost_breakdown": None}
        return made


@st.composite
def calls(draw: st.DrawFn) -> list[Call]:
    """Draw conversations; each has its own configuration or that of an earlier one."""
    drawn = []
    for number in range(draw(st.integers(1, 9))):
        drawn.append(
            Call(
                number,
                day=draw(st.integers(0, 2)),
                config=draw(st.integers(max(0, number - 2), number)),
                status=draw(st.sampled_from(["ended", "ended", "started", "queued"])),
                odd=draw(ODD),
                is_erased=draw(st.booleans()),
            )
        )
    return drawn


def rows(root: Path, erased: set[str]) -> dict[str, list[Any]]:
    """Return the rows of other conversations by file, with all their columns."""
    found: dict[str, list[Any]] = {}
    for table in OWNERS:
        for path in sorted((root / table).rglob("*.*")):
            found[str(path.relative_to(root))] = [
                row for row in _rows(path, table) if _owner(row) not in erased
            ]
    return found


def _rows(path: Path, table: str) -> list[Any]:
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    suffix = path.name[path.name.index(".") :]
    if suffix.startswith(".csv"):
        columns = next(each for each in TABLES if each.name == table).schema.names
        with path.open("rb") as file:
            return [dict(zip(columns, row, strict=True)) for row in read_values(file, suffix, columns)]
    with pa.input_stream(str(path), compression={".gz": "gzip", ".zst": "zstd"}.get(path.suffix)) as stream:
        return [json.loads(line) for line in stream.read().split(b"\n") if line]


def _owner(row: dict[str, Any]) -> Any:
    return row.get("id", row.get("conversation_id"))


@hypothesis_settings(max_examples=60)
@given(
    drawn=calls(),
    encoding=st.sampled_from(ENCODINGS),
    layout=st.sampled_from(["flat", "hive"]),
    redaction=st.sampled_from(REDACTIONS),
    statuses=st.sampled_from([(), ("ended",)]),
)
def test_erasure_removes_exactly_the_selected_conversations(
    drawn: list[Call], encoding: Encoding, layout: Any, redaction: Redaction, statuses: tuple[str, ...]
) -> None:
    """Manifests and coverage stay valid, no erased conversation is pending, and a second run changes nothing."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "exports"
        target = FilesDestination(root, encoding=encoding, layout=layout)
        for day, interval in enumerate(DAYS):
            sent = [call.as_sent() for call in drawn if call.day == day]
            options = {"redaction": redaction, "statuses": statuses, "max_bad_records": 9}
            sent_badly = [{"id": 7, "uri": f"/conversations/{call['id']}"} for call in sent[:1]]
            export_pages([page(*sent, *sent_badly)], interval=interval, target=target, **options)
        later = Interval(DAYS[-1].end, DAYS[-1].end + timedelta(days=1))
        pending = target.find_pending(later, timedelta(days=30))
        coverage = compute_coverage(Manifests(Store(root)).exports(), now=NOW)
        ids = {call.as_sent()["id"] for call in drawn if call.is_erased}
        before = rows(root, ids)

        erased = ErasableFiles(root).erase(ids)

        gone = [call.token for call in drawn if call.is_erased]
        kept = {call.config for call in drawn if not call.is_erased}
        gone += [f"config-{call.config:03}-" for call in drawn if call.is_erased and call.config not in kept]
        assert find_below(root, *gone) == []
        assert rows(root, set()) == before
        assert erased.found <= ids
        for path in (root / "_manifests").iterdir():
            manifest = json.loads(path.read_text())
            for file in manifest["files"]:
                content = Path(file["path"]).read_bytes()
                assert file["bytes"] == len(content)
                assert file["sha256"] == hashlib.sha256(content).hexdigest()
        remaining = {id_: interval for id_, interval in pending.ids.items() if id_ not in ids}
        assert target.find_pending(later, timedelta(days=30)) == PendingConversations(remaining)
        found = compute_coverage(Manifests(Store(root)).exports(), now=NOW)
        assert found == [replace(each, bytes=found[0].bytes) for each in coverage]
        after = files_below(root)
        assert ErasableFiles(root).erase(ids) == Erased()
        assert files_below(root) == after
