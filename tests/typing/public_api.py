"""What a type checker knows of the public API. Checked by mypy and pyright, and never run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, assert_type

import pandas as pd
import polars as pl

from voiceos_provider.backfill import combine_receipts, split_interval
from voiceos_provider.client import (
    AgentConfig,
    AsyncVoiceOSClient,
    ClientConfig,
    Conversation,
    CostBreakdown,
    Message,
    Page,
    PhoneCall,
    RawPage,
    Retry,
    VoiceOSClient,
)
from voiceos_provider.exceptions import VoiceOSAPIError, VoiceOSError, VoiceOSValueError
from voiceos_provider.hooks.voiceos import VoiceOSHook
from voiceos_provider.interval import Interval
from voiceos_provider.operators.voiceos import VoiceOSListConversationsOperator
from voiceos_provider.operators.voiceos_erasure import VoiceOSEraseConversationsOperator
from voiceos_provider.sql_checks import column_checks, table_checks
from voiceos_provider.transfers.voiceos_recordings_to_object_storage import (
    VoiceOSRecordingsToObjectStorageOperator,
)
from voiceos_provider.transfers.voiceos_to_delta_lake import VoiceOSToDeltaLakeOperator
from voiceos_provider.transfers.voiceos_to_iceberg import VoiceOSToIcebergOperator
from voiceos_provider.transfers.voiceos_to_object_storage import VoiceOSToObjectStorageOperator

AN_HOUR = Interval(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 1, 1, tzinfo=UTC))


def a_conversation_is_typed(conversation: Conversation) -> None:
    """Every attribute, and that it may be missing."""
    assert_type(conversation.id, str)
    assert_type(conversation.started_at, datetime | None)
    assert_type(conversation.messages, list[Message] | None)
    assert_type(conversation.agent_config, AgentConfig | None)
    assert_type(conversation.phone_call, PhoneCall | None)
    assert_type(conversation.cost_breakdown, CostBreakdown | None)
    if conversation.cost_breakdown:
        assert_type(conversation.cost_breakdown.total, Decimal | None)


def a_client_is_typed(settings: ClientConfig) -> None:
    """Check that the client is a context manager and lists pages."""
    with VoiceOSClient(settings) as client:
        assert_type(client, VoiceOSClient)
        assert_type(client.list_conversations(status="ended"), Iterator[Page])
        assert_type(client.list_raw(), Iterator[RawPage])
        assert_type(client.get_conversation("id"), Conversation)
        assert_type(client.get_recording_url("id"), str)
        assert_type(client.config.retry, Retry)


async def an_async_client_is_typed(settings: ClientConfig) -> None:
    """Likewise."""
    async with AsyncVoiceOSClient(settings) as client:
        assert_type(client, AsyncVoiceOSClient)
        assert_type(await client.get_conversation("id"), Conversation)
        async for page in client.list_conversations():
            assert_type(page, Page)


def a_hook_is_typed() -> None:
    """Check the types that the hook returns; times may be text."""
    with VoiceOSHook("voiceos_default") as hook:
        assert_type(hook, VoiceOSHook)
        assert_type(hook.get_conn(), VoiceOSClient)
        assert_type(hook.test_connection(), tuple[bool, str])
        assert_type(hook.list_conversations(), Iterator[Page])
        assert_type(
            hook.get_df(interval_start="2026-11-01T00:00:00Z", interval_end=datetime.now(UTC)), pd.DataFrame
        )
        assert_type(hook.get_df(interval_start="2026-11-01", df_type="pandas"), pd.DataFrame)
        assert_type(
            hook.get_df(interval_start="2026-11-01", df_type="polars", table="conversation_costs"),
            pl.DataFrame,
        )
        assert_type(hook.get_df(interval_start="2026-11-01", df_type="arrow", columns=["id"]), Any)
        hook.get_df(interval_start="2026-11-01", colums=["id"])  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


def operators_take_what_their_docstrings_say() -> None:
    """Check that an invalid choice is an error."""
    export = VoiceOSToObjectStorageOperator(
        task_id="export",
        path="s3://bucket/voiceos",
        status=["ended", "started"],
        file_format="jsonl",
        layout="hive",
        target_file_bytes=256_000_000,
        redaction=None,
    )
    assert_type(export.execute({}), dict[str, Any])
    VoiceOSToObjectStorageOperator(
        task_id="export",
        path="s3://bucket/voiceos",
        file_format="xlsx",  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        layout="tree",  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    )
    VoiceOSToIcebergOperator(task_id="lake", iceberg_conn_id="lake", write_disposition="replace")
    VoiceOSToDeltaLakeOperator(task_id="lake", path="s3://bucket/lake", storage_conn_id="aws_default")
    listed = VoiceOSListConversationsOperator(
        task_id="list", columns=("id",), interval_start=datetime.now(UTC)
    )
    assert_type(listed.execute({}), list[dict[str, Any]])
    recordings = VoiceOSRecordingsToObjectStorageOperator(
        task_id="recordings",
        path="s3://bucket/voiceos",
        conversation_type=["web_call"],
        agent_id="agent",
        min_duration=timedelta(minutes=1),
        max_duration=600,
    )
    assert_type(recordings.execute({}), dict[str, Any])
    erasure = VoiceOSEraseConversationsOperator(task_id="erase", ids=["a"], path="s3://bucket/voiceos")
    assert_type(erasure.execute({}), dict[str, Any])
    VoiceOSEraseConversationsOperator(
        task_id="erase",
        ids=1,  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        sql_conn_id="warehouse",
        schema="calls",
    )


def checks_are_plain_dictionaries() -> None:
    """As the operators of common.sql take them."""
    assert_type(column_checks("conversations"), dict[str, dict[str, dict[str, Any]]])
    assert_type(table_checks(name="calls.conversations"), dict[str, dict[str, str]])


def errors_say_whether_to_try_again(error: VoiceOSError) -> None:
    """And those of the API what it answered."""
    assert_type(error.retryable, bool)
    if isinstance(error, VoiceOSAPIError):
        assert_type(error.status_code, int | None)
        assert_type(error.retry_after, float | None)
    if isinstance(error, VoiceOSValueError):
        raise ValueError(str(error)) from error


def windows_and_receipts_are_typed(receipts: list[dict[str, Any]]) -> None:
    """Arguments of mapped tasks, and the sum of what these return."""
    windows = split_interval("2026-11-01", "2026-11-08", every="day", timezone="Europe/Berlin")
    assert_type(windows, list[dict[str, str]])
    assert_type(combine_receipts(receipts, windows=windows), dict[str, Any])
