"""Both decoders of conversations, and their rows as Python values."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from voiceos_provider.client.models import ConversationStruct
from voiceos_provider.interval import Interval
from voiceos_provider.transform import TABLES, Decoded, Decoder

INTERVAL = Interval(datetime(2024, 6, 3, tzinfo=UTC), datetime(2024, 6, 4, tzinfo=UTC))
EXPORTED_AT = datetime(2024, 6, 5, tzinfo=UTC)

Row = dict[str, Any]
Path = tuple[str | int, ...]
_documented = msgspec.json.Decoder(ConversationStruct)


@dataclass
class Read:
    """Rows of every table, and the other results of decoding."""

    tables: dict[str, list[Row]]
    decoded: Decoded

    @property
    def rows(self) -> list[Row]:
        """Return the rows of `conversations`."""
        return self.tables["conversations"]

    @property
    def costs(self) -> list[Row]:
        return self.tables["conversation_costs"]

    @property
    def messages(self) -> list[Row]:
        return self.tables["conversation_messages"]

    @property
    def configs(self) -> list[Row]:
        return self.tables["agent_configs"]

    def config_of(self, row: Row) -> str | None:
        """Return the configuration of a conversation, as JSON text."""
        if row["agent_config_hash"] is None:
            return None
        (config,) = (
            config for config in self.configs if config["agent_config_hash"] == row["agent_config_hash"]
        )
        text: str = config["agent_config"]
        return text


def as_text(item: str | bytes) -> msgspec.Raw:
    """Return a conversation as `split_page` leaves it."""
    return msgspec.Raw(item.encode() if isinstance(item, str) else item)


def as_page(item: str | bytes) -> Any:
    """Return a conversation as `parse_page` decodes it: a struct, if it is exactly as documented."""
    try:
        return _documented.decode(item)
    except (msgspec.DecodeError, RecursionError):
        return as_text(item)


def decoded(items: Iterable[Any], **options: Any) -> Read:
    """Decode conversations; every table is whole and has its schema."""
    result = Decoder(INTERVAL, EXPORTED_AT, **options).decode(list(items))
    assert list(result.rows) == [table.name for table in TABLES]
    for table in TABLES:
        result.rows[table.name].batch.validate(full=True)
        assert result.rows[table.name].batch.schema.equals(table.schema, check_metadata=True)
    return Read({name: rows.batch.to_pylist() for name, rows in result.rows.items()}, result)


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield every scalar, empty object and empty list with its path."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))
    else:
        yield path, value
