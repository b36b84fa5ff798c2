"""Round trip from JSON through Parquet into DuckDB."""

import itertools
import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.conversation_strategies import arbitrary_conversations, documented_conversations, json_text
from tests.support.decoding import Read, as_page, as_text, decoded
from voiceos_provider.transform import TABLES
from voiceos_provider.transform.schema import CONVERSATIONS, FIRST_INSTANT, LAST_INSTANT

_numbers = itertools.count()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the files."""
    return tmp_path_factory.mktemp("round-trip")


@pytest.fixture(scope="module")
def database() -> duckdb.DuckDBPyConnection:
    """Return DuckDB with the time zone UTC."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def arrived(read: Read, folder: Path, database: duckdb.DuckDBPyConnection) -> dict[str, pa.Table]:
    """Return the tables as DuckDB reads them from Parquet files."""
    found = {}
    for table in TABLES:
        # Each file has another name: DuckDB caches files by name and time, and these are written quickly.
        path = folder / f"{table.name}-{next(_numbers)}.parquet"
        pq.write_table(pa.Table.from_batches([read.decoded.rows[table.name].batch]), path)
        found[table.name] = database.execute(f"SELECT * FROM read_parquet('{path}')").to_arrow_table()
        path.unlink()
    return found


ITEMS = st.lists(documented_conversations | arbitrary_conversations(), min_size=1, max_size=4)


@settings(max_examples=25)
@given(ITEMS, st.sampled_from([as_page, as_text]))
def test_every_table_is_read_as_written(
    folder: Path, database: duckdb.DuckDBPyConnection, sent: list[dict[str, Any]], way: Any
) -> None:
    """Compare every value of every column, including null."""
    read = decoded([way(json_text(conversation)) for conversation in sent])
    for name, table in arrived(read, folder, database).items():
        assert table.schema.names == read.decoded.rows[name].batch.schema.names
        assert list(map(repr, table.to_pylist())) == list(map(repr, read.tables[name]))


MONEY = st.decimals(-(10**13), 10**13, places=24, allow_nan=False) | st.sampled_from(
    [Decimal("99999999999999.999999999999999999999999"), Decimal("1e-24"), Decimal("0.056900000000000006")]
)
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
INSTANTS = st.datetimes(
    datetime(1900, 1, 1),  # noqa: DTZ001
    datetime(2262, 1, 1),  # noqa: DTZ001
    timezones=ZONES,
).filter(
    lambda moment: datetime(1900, 1, 2) < moment.replace(tzinfo=None) < datetime(2261, 12, 30)  # noqa: DTZ001
) | st.sampled_from([FIRST_INSTANT, LAST_INSTANT])
COUNTS = st.integers(-(2**63), 2**63 - 1)
TEXTS = st.none() | st.text() | st.sampled_from(["", "null", "\\N", "é́", "\U0001f600", "\u2028", 'a"b\n,c'])
TEXTS = TEXTS.filter(lambda text: text is None or "://" not in text)


@settings(max_examples=25)
@given(MONEY, INSTANTS, COUNTS, TEXTS, st.integers(2**63, 10**40), st.floats(0, 1e12))
def test_value_within_the_limits_is_read_unchanged(
    folder: Path,
    database: duckdb.DuckDBPyConnection,
    money: Decimal,
    moment: datetime,
    count: int,
    text: str | None,
    huge: int,
    seconds: float,
) -> None:
    """Instants reach from 1900 to 2261; `extra` holds longer integers."""
    item = {
        "id": "a",
        "agent_id": text,
        "started_at": moment.isoformat(),
        "messages": [{"role": "user", "content": text}],
        "agent_config": {"prompt": text},
        "cost_breakdown": {
            "total": money,
            "agent": {"seconds": seconds},
            "voice": {"characters": count},
            "language_model": {"input_tokens": huge},
        },
    }
    for way in (as_page, as_text):
        tables = arrived(decoded([way(json_text(item))]), folder, database)
        (row,) = tables["conversations"].to_pylist()
        assert (row["total_cost"], row["agent_id"]) == (money, text)
        assert row["started_at"].astimezone(UTC) == moment
        assert (row["voice_cost_characters"], row["agent_cost_seconds"]) == (count, seconds)
        assert row["language_model_cost_input_tokens"] is None
        assert json.loads(row["extra"]) == {"cost_breakdown": {"language_model": {"input_tokens": huge}}}
        assert tables["conversation_messages"].column("content").to_pylist() == [text]
        assert tables["agent_configs"].column("prompt").to_pylist() == [text]


def test_empty_text_and_null_are_read_as_two_values(
    folder: Path, database: duckdb.DuckDBPyConnection
) -> None:
    """Check every text column with a value of the conversation."""
    texts = [c for c in CONVERSATIONS.columns if c.path and c.kind.name == "text" and c.name != "id"]
    items = []
    for value in ("", None):
        item: dict[str, Any] = {"id": "a"}
        for column in texts:
            holder = item
            for step in column.path[:-1]:
                holder = holder.setdefault(step, {})
            holder[column.path[-1]] = value
        items.append(as_page(json.dumps(item)))
    empty, null = arrived(decoded(items), folder, database)["conversations"].to_pylist()
    assert {empty[column.name] for column in texts} == {""}
    assert {null[column.name] for column in texts} == {None}
