"""Rows as files in every format and compression, read with several libraries."""

import json
import random
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.exporting import DAY, ENCODINGS, NOW, page
from tests.support.reading import LIBRARIES, Reader, json_columns, plain_bytes
from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.load.files.formats import Encoding
from voiceos_provider.transform import TABLES, Decoder, Table
from voiceos_provider.transform.schema import AGENT_CONFIGS, CONVERSATION_MESSAGES, CONVERSATIONS

every_encoding = pytest.mark.parametrize(
    "encoding", ENCODINGS, ids=lambda e: f"{e.file_format}-{e.compression}"
)
every_table = pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
every_reader = pytest.mark.parametrize("reader", LIBRARIES, ids=lambda reader: reader.name)

CSV, JSONL, PARQUET = (Encoding.choose(name, None) for name in ("csv", "jsonl", "parquet"))

NASTY = [
    'plain "quoted", comma',
    '"',
    '""',
    "line\nbreak",
    "carriage\r\nreturn\rand tab\t",
    "emoji 😀 👩‍👩‍👧 and á",
    "NUL \x00 inside",
    "line separator \u2028 and paragraph separator \u2029",
    "bell \x07, escape \x1b, delete \x7f",
    "\\n is no newline, \\ is a backslash",
    "عربى and 日本語",
    " spaces around ",
    "NULL", "null", "None", "nan", "NA", "true", "0123", "1e5", "2026-11-01",
    "'; DROP TABLE conversations; --",
    "=1+1",
    "\ufeffbyte order mark",
    "\ufffd",
]  # fmt: skip
MONEY = [0, 3, -0.5, 1e-24, 0.056900000000000006, 0.1, 1.10, 12345678901234.125, 99999999999999.0, -1e-12]
INSTANTS = [
    "1900-01-01T00:00:00Z",
    "2261-12-31T23:59:59.999999Z",
    "1969-12-31T23:59:59.5Z",
    "2026-11-01T00:00:00Z",
]


def conversations() -> list[dict[str, Any]]:
    """Return conversations with values that are difficult for a format, each in its own row."""
    rows: list[dict[str, Any]] = [{"id": "0 nothing but an id"}]
    for n, text in enumerate(NASTY):
        rows.append(
            {
                "id": f"1 text {n:02}",
                "uri": text,
                "ended_reason": "",
                "phone_call": {"from_number": text, "to_number": None},
                "messages": [
                    {"role": "user", "content": text},
                    {"role": "agent", "content": "", "x": {text: n}},
                ],
                "agent_config": {"prompt": text, "metadata": {text: [text, None, True, 1.10, {}]}},
                "news": {text: text},
            }
        )
    for n, amount in enumerate(MONEY):
        costs = {"total": amount, "voice": {"cost": amount, "characters": n * 10**15, "provider": NASTY[n]}}
        rows.append({"id": f"2 money {n:02}", "cost_breakdown": costs})
    for n, instant in enumerate(INSTANTS):
        rows.append({"id": f"3 time {n:02}", "started_at": instant, "ended_at": INSTANTS[-n]})
    rows.append({"id": "4 empty", "uri": "", "messages": [], "agent_config": {}, "extra": "", "more": {}})
    rows.append({"id": "5 flags", "agent_config": {"voice": {"credential_id": "c"}, "transcriber": {}}})
    rows.append({"id": "6 \n,\"'\x00 in the id"})
    return rows


def decode_all(items: Iterable[Any]) -> dict[Table, pa.RecordBatch]:
    """Return conversations as rows of every table; none is rejected."""
    decoded = Decoder(DAY, NOW).decode(page(*items).items)
    assert not decoded.rejected
    return {table: decoded.rows[table.name].batch for table in TABLES}


def decode(items: Iterable[Any]) -> pa.RecordBatch:
    """Return conversations as rows of their own table."""
    return decode_all(items)[CONVERSATIONS]


@pytest.fixture(scope="module")
def batches() -> dict[Table, pa.RecordBatch]:
    """Return difficult rows of every table."""
    batches = decode_all(conversations())
    assert all(map(len, batches.values()))
    return batches


@pytest.fixture(scope="module")
def batch(batches: dict[Table, pa.RecordBatch]) -> pa.RecordBatch:
    """Return the batch of the conversations."""
    return batches[CONVERSATIONS]


def write(encoding: Encoding, folder: Path, *batches: pa.RecordBatch, table: Table = CONVERSATIONS) -> Path:
    """Write these rows to a file with the suffix of its format, and return its path."""
    path = folder / f"{table.name}{encoding.suffix}"
    encoding.write(path, table.schema, batches)
    return path


def lines_of(path: Path) -> list[str]:
    """Return the lines of a file, split at line feeds only."""
    *lines, rest = path.read_text().split("\n")
    assert rest == ""
    return lines


@every_table
@every_encoding
@every_reader
def test_every_library_reads_the_same_rows(
    encoding: Encoding, reader: Reader, table: Table, batches: dict[Table, pa.RecordBatch], tmp_path: Path
):
    """DuckDB, pandas and Arrow find the decoded values in every format and compression."""
    path = write(encoding, tmp_path, batches[table], table=table)
    assert reader.rows(path, encoding, table) == reader.expected_rows(
        batches[table].to_pylist(), encoding, table
    )


@every_table
@every_encoding
def test_rows_are_counted_as_a_reader_counts_them(
    encoding: Encoding, table: Table, batches: dict[Table, pa.RecordBatch], tmp_path: Path
):
    """Line ends in texts do not separate rows."""
    assert encoding.count(write(encoding, tmp_path, batches[table], table=table)) == len(batches[table])


@every_table
@every_encoding
def test_file_without_rows_can_be_read(encoding: Encoding, table: Table, tmp_path: Path):
    """An interval without calls is a file and not a gap."""
    path = write(encoding, tmp_path, table=table)
    assert encoding.count(path) == 0
    for reader in LIBRARIES:
        if (reader.name, encoding.file_format) == ("pyarrow", "jsonl"):
            continue  # it refuses every empty file
        assert reader.rows(path, encoding, table) == []


@every_table
@pytest.mark.parametrize("encoding", [e for e in ENCODINGS if e.file_format != "jsonl"])
def test_file_without_rows_has_every_column(encoding: Encoding, table: Table, tmp_path: Path):
    """A query over many days includes empty ones."""
    path = write(encoding, tmp_path, table=table)
    if encoding.file_format == "parquet":
        assert pq.read_schema(path).equals(table.schema, check_metadata=True)
    else:
        names = plain_bytes(path, encoding).decode()
        assert names == ",".join(f'"{name}"' for name in table.schema.names) + "\n"


EXACT = ["12345678901234.123456789012345678901234", "-0.000000000000000000000001", "0.1"]


@pytest.fixture
def exact(tmp_path: Path) -> pa.RecordBatch:
    """Return amounts with more digits than a double has; only strings can send them."""
    return decode({"id": f"{n}", "cost_breakdown": {"total": text}} for n, text in enumerate(EXACT))


def test_decimal_keeps_all_digits_in_parquet(exact: pa.RecordBatch, tmp_path: Path):
    """Every library reads 38 digits, 24 of them after the point."""
    path = write(PARQUET, tmp_path, exact)
    for reader in LIBRARIES:
        assert [row["total_cost"] for row in reader.rows(path, PARQUET)] == [Decimal(text) for text in EXACT]


def test_decimal_keeps_all_digits_in_csv(exact: pa.RecordBatch, tmp_path: Path):
    """It has no exponent, which many readers of money reject."""
    path = write(CSV, tmp_path, exact)
    assert all(f'"{text}"' in path.read_text() for text in EXACT)
    for reader in LIBRARIES:
        assert [row["total_cost"] for row in reader.rows(path, CSV)] == [Decimal(text) for text in EXACT]


def test_decimal_keeps_all_digits_in_json(exact: pa.RecordBatch, tmp_path: Path):
    """It is written as a number; its precision after reading depends on the reader."""
    lines = lines_of(write(JSONL, tmp_path, exact))
    assert [f'"total_cost":{text},' in line for text, line in zip(EXACT, lines, strict=True)] == [True] * 3
    assert [json.loads(line, parse_float=str)["total_cost"] for line in lines] == EXACT


@pytest.mark.parametrize(
    ("table", "name", "kinds"),
    [
        (CONVERSATIONS, "extra", {dict, type(None)}),
        (CONVERSATION_MESSAGES, "extra", {dict, type(None)}),
        (AGENT_CONFIGS, "agent_config", {dict}),
    ],
)
def test_json_lines_hold_nested_json(
    table: Table, name: str, kinds: set[type], batches: dict[Table, pa.RecordBatch], tmp_path: Path
):
    """A configuration is an object and not a string."""
    rows = [json.loads(line) for line in lines_of(write(JSONL, tmp_path, batches[table], table=table))]
    assert len(rows) == len(batches[table])
    assert {type(row[name]) for row in rows} == kinds
    assert all(list(row) == table.schema.names for row in rows)
    assert json_columns(table) == [name]


def test_numbers_of_any_size_survive_in_nested_json(tmp_path: Path):
    """Undocumented fields keep the digits that were sent."""
    sent = b'{"id": "a", "big": 12345678901234567890123, "messages": [{"x": 1.10, "y": 1E400}]}'
    rows = Decoder(DAY, NOW).decode([msgspec.Raw(sent)]).rows
    conversation, message = (
        lines_of(write(JSONL, tmp_path, rows[table.name].batch, table=table))
        for table in (CONVERSATIONS, CONVERSATION_MESSAGES)
    )
    assert '"extra":{"big":12345678901234567890123}' in conversation[0]
    assert '"extra":{"x":1.10,' in message[0]
    assert json.loads(message[0], parse_float=Decimal)["extra"] == {
        "x": Decimal("1.10"),
        "y": Decimal("1E400"),
    }


@every_table
@pytest.mark.parametrize("encoding", [PARQUET, CSV])
def test_json_in_parquet_and_csv_is_valid_text(
    encoding: Encoding, table: Table, batches: dict[Table, pa.RecordBatch], tmp_path: Path
):
    """DuckDB's JSON functions read it."""
    batch = batches[table]
    path = write(encoding, tmp_path, batch, table=table)
    read = "read_parquet" if encoding == PARQUET else "read_csv"
    types = (
        "" if encoding == PARQUET else ", all_varchar=true, header=true, quote='\"', escape='\"', delim=','"
    )
    for name in json_columns(table):
        found = duckdb.sql(f"SELECT bool_and(json_valid({name})), count({name}) FROM {read}('{path}'{types})")
        assert found.fetchone() == (True, len(batch) - batch.column(name).null_count)


def test_null_and_empty_text_differ_in_csv(tmp_path: Path):
    """Texts are quoted and nulls are not."""
    path = write(CSV, tmp_path, decode([{"id": "a", "uri": ""}, {"id": "b", "uri": None}]))
    _, *rows = path.read_text().splitlines()
    assert rows[0].startswith('"a","",,')
    assert rows[1].startswith('"b",,,')


def test_instants_in_json_are_rfc_3339_in_utc(batch: pa.RecordBatch, tmp_path: Path):
    """This holds from the first to the last supported year."""
    lines = [json.loads(line) for line in lines_of(write(JSONL, tmp_path, batch))]
    starts = [line["started_at"] for line in lines if line["started_at"]]
    assert starts == [
        "1900-01-01T00:00:00Z", "2261-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.500000Z",
        "2026-11-01T00:00:00Z",
    ]  # fmt: skip


@pytest.mark.parametrize("encoding", [e for e in ENCODINGS if e.file_format == "parquet"])
def test_parquet_has_the_requested_compression(encoding: Encoding, batch: pa.RecordBatch, tmp_path: Path):
    """Its file name does not show the compression."""
    column = pq.ParquetFile(write(encoding, tmp_path, batch)).metadata.row_group(0).column(0)
    assert column.compression == {"none": "UNCOMPRESSED"}.get(
        encoding.compression, encoding.compression.upper()
    )


def test_text_files_have_the_compression_of_their_suffix(batch: pa.RecordBatch, tmp_path: Path):
    """Compare the first bytes with those of gzip and Zstandard."""
    for encoding in ENCODINGS:
        if encoding.file_format != "parquet":
            head = write(encoding, tmp_path, batch).read_bytes()[:4]
            assert head[:2] == b"\x1f\x8b" or encoding.compression != "gzip"
            assert head == b"\x28\xb5\x2f\xfd" or encoding.compression != "zstd"


@every_table
def test_parquet_describes_its_columns(table: Table, batches: dict[Table, pa.RecordBatch], tmp_path: Path):
    """The descriptions are in the file."""
    schema = pq.read_schema(write(PARQUET, tmp_path, batches[table], table=table))
    assert [schema.field(c.name).metadata[b"description"].decode() for c in table.columns] == [
        column.description for column in table.columns
    ]


def test_long_conversation_is_one_row_in_every_format(tmp_path: Path):
    """Five megabytes with quotes and line ends exceed every reader's block size."""
    talk = [{"role": "user", "content": 'He said: "no",\n' * 350_000}]
    batches = decode_all(
        [
            {"id": "short", "messages": [{"role": "user"}]},
            {"id": "long", "messages": talk, "uri": 'x"\n' * 700_000},
            {"id": "end", "messages": [{"role": "user"}]},
        ]
    )
    for table in (CONVERSATIONS, CONVERSATION_MESSAGES):
        rows = batches[table].to_pylist()
        for encoding in ENCODINGS:
            path = write(encoding, tmp_path, batches[table], table=table)
            assert encoding.count(path) == 3, encoding
            for reader in LIBRARIES:
                seen = reader.rows(path, encoding, table)
                assert seen == reader.expected_rows(rows, encoding, table), reader.name


def test_ids_that_look_like_numbers_stay_texts(tmp_path: Path):
    """Types are not inferred from the first rows."""
    ids = [f"{n:07}" for n in range(30_000)] + ["not a number"]
    for encoding in (CSV, JSONL, PARQUET):
        schema = CONVERSATIONS.schema
        empty = [pa.nulls(len(ids), field.type) for field in schema]
        empty[0] = pa.array(ids)
        for at in range(len(schema) - 3, len(schema)):
            empty[at] = pa.array([NOW] * len(ids), schema.field(at).type)
        assert encoding.count(write(encoding, tmp_path, pa.record_batch(empty, schema=schema))) == len(ids)


def test_count_does_not_depend_on_block_boundaries(tmp_path: Path):
    """Quotes and line ends at a boundary count once."""
    rng = random.Random(5)
    for _ in range(3):
        lengths = [rng.randrange(2**20 - 40_000, 2**20 + 40_000) for _ in range(6)]
        batch = decode({"id": f"{n}\n", "uri": '"\n' * (size // 3)} for n, size in enumerate(lengths))
        assert CSV.count(write(CSV, tmp_path, batch)) == 6


def test_parquet_row_groups_fit_into_memory(tmp_path: Path):
    """A row group holds some megabytes, however large the export is."""
    batch = decode({"id": f"{n}", "uri": "x" * 100_000} for n in range(100))
    metadata = pq.ParquetFile(write(PARQUET, tmp_path, *[batch] * 6)).metadata
    assert metadata.num_rows == 600
    assert metadata.num_row_groups >= 3
    assert max(metadata.row_group(n).total_byte_size for n in range(metadata.num_row_groups)) < 40 * 2**20


def test_every_format_has_a_default_compression():
    """Parquet is compressed, and text is not."""
    assert Encoding.choose("parquet", None) == Encoding("parquet", "zstd")
    assert Encoding.choose("jsonl", None) == Encoding("jsonl", "none")
    assert Encoding.choose("csv", None) == Encoding("csv", "none")


@pytest.mark.parametrize(
    ("file_format", "compression", "says"),
    [
        ("xlsx", None, "file_format 'xlsx' is not one of parquet, jsonl, csv."),
        ("Parquet", None, "file_format 'Parquet' is not one of"),
        ("", None, "file_format '' is not one of"),
        ("parquet", "lzma", "compression 'lzma' is not one of zstd, gzip, snappy, none, those of parquet."),
        ("csv", "snappy", "compression 'snappy' is not one of none, gzip, zstd, those of csv."),
        ("jsonl", "", "compression '' is not one of"),
    ],
)
def test_invalid_combination_is_rejected_by_name(file_format: str, compression: str | None, says: str):
    """The message lists the choices."""
    with pytest.raises(VoiceOSValueError, match="is not one of") as refusal:
        Encoding.choose(file_format, compression)
    assert says in str(refusal.value)
