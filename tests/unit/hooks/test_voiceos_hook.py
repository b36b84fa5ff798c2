"""The hook against the API on a port, with connections from the environment as Airflow reads them."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException, Connection

from voiceos_provider.emulator import Emulator, World
from voiceos_provider.exceptions import VoiceOSAuthError, VoiceOSValueError
from voiceos_provider.hooks.voiceos import VoiceOSHook
from voiceos_provider.interval import Interval
from voiceos_provider.transform.schema import CONVERSATIONS

Day = tuple[datetime, datetime]


def test_connection_sets_token_host_and_extras(api: Emulator) -> None:
    """The API receives the bearer token and the page size, and nothing else of the connection."""
    with VoiceOSHook() as hook:
        page = next(iter(hook.list_conversations()))
    assert len(page.conversations) == 50
    request = api.requests[-1]
    assert request.headers["authorization"] == f"Bearer {api.token}"
    assert request.query["limit"] == "50"


def test_unknown_extras_never_become_headers(emulator: Emulator, connect: Callable[..., str]) -> None:
    """They are not sent."""
    with emulator.serve() as url:
        connect(host=url, password=emulator.token, extra={"X-Secret": "hunter2"})
        with VoiceOSHook() as hook:
            next(iter(hook.list_conversations()))
    assert "hunter2" not in str(emulator.requests)


def test_hook_can_be_made_from_a_connection_id(api: Emulator) -> None:
    """Airflow passes the documented keyword."""
    hook = VoiceOSHook(**{VoiceOSHook.conn_name_attr: "voiceos_default"})
    assert hook.get_conn().config.token == api.token
    hook.close()


def test_missing_connection_raises_the_error_of_airflow() -> None:
    """It names the id."""
    with pytest.raises(AirflowNotFoundException, match="voiceos_absent"):
        VoiceOSHook("voiceos_absent").get_conn()


def test_get_df_holds_the_interval(api: Emulator, world: World, yesterday: Day) -> None:
    """The frame has one row per conversation of the interval, with UTC times and exact money."""
    start, end = yesterday
    with VoiceOSHook() as hook:
        frame = hook.get_df(interval_start=start, interval_end=end)
    assert sorted(frame["id"]) == sorted(world.ids(created_after=start, created_before=end))
    assert str(frame["started_at"].dtype) == "datetime64[us, UTC]"
    assert all(isinstance(cost, Decimal) for cost in frame["total_cost"].dropna())


def test_get_df_as_arrow_has_the_schema_of_the_export(api: Emulator, yesterday: Day) -> None:
    """Types, nullability and descriptions are those of the files."""
    start, end = yesterday
    with VoiceOSHook() as hook:
        table = hook.get_df(interval_start=start, interval_end=end, df_type="arrow")
        costs = hook.get_df(
            interval_start=start,
            interval_end=end,
            table="conversation_costs",
            df_type="arrow",
            columns=["cost"],
        )
    assert table.schema.equals(CONVERSATIONS.schema, check_metadata=True)
    assert not table.schema.field("id").nullable
    assert costs.schema.field("cost").type == pa.decimal128(38, 24)
    assert len(costs) > len(table) > 0


def test_get_df_rejects_an_unknown_type_before_any_request(api: Emulator, yesterday: Day) -> None:
    """The message lists the types."""
    with VoiceOSHook() as hook, pytest.raises(VoiceOSValueError, match="not one of pandas, polars, arrow"):
        hook.get_df(interval_start=yesterday[0], interval_end=yesterday[1], df_type="spark")  # type: ignore[call-overload]
    assert api.requests == []


def test_get_df_names_the_extra_that_polars_needs(
    api: Emulator, yesterday: Day, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is read before."""
    monkeypatch.setitem(sys.modules, "polars", None)
    with VoiceOSHook() as hook, pytest.raises(VoiceOSValueError, match=r"airflow-provider-voiceos\[polars\]"):
        hook.get_df(interval_start=yesterday[0], interval_end=yesterday[1], df_type="polars")
    assert api.requests == []


def test_get_df_accepts_several_states_and_columns(api: Emulator, world: World, yesterday: Day) -> None:
    """States are filtered by the client, and only selected columns are returned."""
    start, end = yesterday
    with VoiceOSHook() as hook:
        frame = hook.get_df(
            interval_start=start, interval_end=end, status=["queued", "started"], columns=["id", "status"]
        )
    expected = [
        id_
        for status in ("queued", "started")
        for id_ in world.ids(
            created_after=start, created_before=end, status=status, now=datetime.now(start.tzinfo)
        )
    ]
    assert sorted(frame["id"]) == sorted(expected)
    assert list(frame.columns) == ["id", "status"]


def test_get_df_names_an_unknown_column(api: Emulator, yesterday: Day) -> None:
    """The message lists the known ones."""
    start, end = yesterday
    with (
        VoiceOSHook() as hook,
        pytest.raises(VoiceOSValueError, match=r"'cost' do not exist; there are id, uri"),
    ):
        hook.get_df(interval_start=start, interval_end=end, columns=["cost"])


def test_get_df_names_an_unknown_state(api: Emulator, yesterday: Day) -> None:
    """The error comes before any request."""
    start, end = yesterday
    with VoiceOSHook() as hook, pytest.raises(VoiceOSValueError, match="status 'done' is not one of queued"):
        hook.get_df(interval_start=start, interval_end=end, status="done")
    assert api.requests == []


@pytest.mark.parametrize("strategy", ["windows", "pages"])
def test_read_interval_yields_every_conversation_decoded(
    strategy: str, api: Emulator, world: World, yesterday: Day
) -> None:
    """The models equal those of `list_conversations`."""
    with VoiceOSHook() as hook:
        pages = list(hook.read_interval(Interval(*yesterday), read_strategy=strategy))
        some = hook.get_conversation(pages[0].conversations[0].id)
    found = [conversation.id for page in pages for conversation in page.conversations]
    assert len(found) > 100
    assert sorted(found) == sorted(world.ids(created_after=yesterday[0], created_before=yesterday[1]))
    assert pages[0].conversations[0] == some
    assert not any(page.rejected or page.unreadable for page in pages)


def test_read_interval_filters_by_one_state_with_numbered_pages(
    api: Emulator, world: World, yesterday: Day
) -> None:
    """The server applies its filter."""
    start, end = yesterday
    with VoiceOSHook() as hook:
        pages = list(hook.read_interval(Interval(start, end), read_strategy="pages", status="ended"))
    expected = world.ids(created_after=start, created_before=end, status="ended", now=datetime.now(UTC))
    assert sorted(c.id for page in pages for c in page.conversations) == sorted(expected)
    assert expected


@pytest.mark.parametrize("readable", [True, False])
def test_read_interval_yields_a_conversation_that_can_no_longer_be_read(
    *, readable: bool, api: Emulator, world: World, yesterday: Day
) -> None:
    """A page holds its id."""
    hidden: list[str] = []

    def hide_one_of_an_overflowing_window(_: int) -> None:
        query = api.requests[-1].query if api.requests else {}
        if hidden or "created_after" not in query or query["limit"] != "50":
            return
        after, before = (datetime.fromisoformat(query[name]) for name in ("created_after", "created_before"))
        window = world.ids(created_after=after, created_before=before)
        if len(window) > 50:
            hidden.append(window[-1])
            world.delete(hidden[0], soft=True)
            api.set_conversation_status(hidden[0], None if readable else 403)

    api.before_list = hide_one_of_an_overflowing_window
    with VoiceOSHook() as hook:
        pages = list(hook.read_interval(Interval(*yesterday), max_concurrency=1))
    read = [c.id for page in pages for c in page.conversations]
    unreadable = [id_ for page in pages for id_ in page.unreadable]
    assert len(hidden) == 1
    assert (read.count(hidden[0]), unreadable) == ((1, []) if readable else (0, hidden))


def test_single_conversation_and_its_recording(api: Emulator, world: World, yesterday: Day) -> None:
    """The hook reads them by id."""
    start, end = yesterday
    id_ = world.ids(created_after=start, created_before=end, status="ended", now=datetime.now(start.tzinfo))[
        0
    ]
    with VoiceOSHook() as hook:
        assert hook.get_conversation(id_).status == "ended"


class TestTestConnection:
    """Results of `test_connection` for common mistakes."""

    def test_healthy_api(self, api: Emulator) -> None:
        ok, message = VoiceOSHook().test_connection()
        assert (ok, message.split(" ", 1)[1]) == (True, "answers, and accepts the token.")

    def test_wrong_token(self, emulator: Emulator, connect: Callable[..., str]) -> None:
        with emulator.serve() as url:
            connect(host=url, password="wrong-token")
            ok, message = VoiceOSHook().test_connection()
        assert not ok
        assert "answers, but refuses the token" in message
        assert "401" in message
        assert "wrong-token" not in message

    def test_wrong_host(self, connect: Callable[..., str]) -> None:
        connect(host="http://127.0.0.1:9", password="token")
        ok, message = VoiceOSHook().test_connection()
        assert not ok
        assert message.startswith("No VoiceOS API at http://127.0.0.1:9: GET /: no complete response from")

    def test_incomplete_connection(self, connect: Callable[..., str]) -> None:
        connect(host="https://api.example.com")
        assert VoiceOSHook().test_connection() == (
            False,
            "Connection 'voiceos_default' has no API token. Set it in the Password field.",
        )


def test_rejected_token_is_not_retried(emulator: Emulator, connect: Callable[..., str]) -> None:
    """One request is sent, and the message names the field to check."""
    with emulator.serve() as url:
        connect(host=url, password="wrong-token")
        with VoiceOSHook() as hook, pytest.raises(VoiceOSAuthError, match="connection's password field"):
            next(iter(hook.list_conversations()))
    assert len(emulator.requests) == 1


def test_new_token_is_sent_only_to_its_own_host(emulator: Emulator, connect: Callable[..., str]) -> None:
    """The connection changes to another API while a task reads."""
    with emulator.serve() as url, VoiceOSHook() as hook:
        connect(host=url, password="before")
        hook.get_conn()
        connect(host="https://another.example", password=emulator.token)
        with pytest.raises(VoiceOSAuthError):
            next(iter(hook.list_conversations()))
        connect(host=url, password=emulator.token)
        assert next(iter(hook.list_conversations()))


def test_no_secret_is_logged(api: Emulator, yesterday: Day, caplog: pytest.LogCaptureFixture) -> None:
    """At INFO, neither the package nor httpx logs a token, query or phone number."""
    start, end = yesterday
    with caplog.at_level(logging.INFO), VoiceOSHook() as hook:
        hook.get_df(interval_start=start, interval_end=end)
    assert "Exporting conversations" in caplog.text
    assert api.token not in caplog.text
    assert "created_after" not in caplog.text
    assert "+1" not in caplog.text


def test_hook_reads_fields_of_this_airflow_s_connection(connect: Callable[..., str]) -> None:
    """Their names exist in Airflow's own class."""
    connection = Connection(conn_id="x", conn_type="voiceos", host="h", password="p")
    assert [connection.host, connection.password, connection.schema, connection.port] == [
        "h",
        "p",
        None,
        None,
    ]
