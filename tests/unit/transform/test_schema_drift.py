"""Schema drift: undocumented fields and values, and values of an invalid type."""

import json
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from tests.support.decoding import EXPORTED_AT, INTERVAL, as_page
from tests.support.exporting import export_pages
from voiceos_provider.client import RawPage
from voiceos_provider.exceptions import VoiceOSContractError
from voiceos_provider.load.memory import MemoryDestination
from voiceos_provider.load.receipt import ExportReceipt
from voiceos_provider.transform import Decoder, Drift

Reader = Callable[..., Any]


def drift_of(read: Reader, *items: dict[str, Any], **options: Any) -> Drift:
    """Return the drift of these conversations."""
    drift = read(*(json.dumps({"id": "a"} | item) for item in items), **options).decoded.drift
    assert isinstance(drift, Drift)
    return drift


def test_an_undocumented_field_is_named_by_its_path_and_counted(read: Reader) -> None:
    """It counts once per conversation or message that has it; fields inside it are not named."""
    item = {
        "tags": {"deep": {"deeper": 1}},
        "phone_call": {"sip-header": None},
        "cost_breakdown": {"recording": {"cost": 1}, "voice": {"minutes": 2}},
        "messages": [{"at": 1}, {"at": 2, "role": "user"}],
    }
    assert drift_of(read, item, {"tags": None}, {}).undocumented_fields == {
        "tags": 2,
        "phone_call.sip-header": 1,
        "cost_breakdown.recording": 1,
        "cost_breakdown.voice.minutes": 1,
        "messages.[].at": 2,
    }


def test_a_field_name_that_may_be_content_is_masked(read: Reader) -> None:
    """An object with phone numbers or spoken words as keys does not reach a log line."""
    item = {"+14155550142": 1, "my card": 2, "phone_call": {"4155550142": 3, "to_number": {"4155550142": 4}}}
    drift = drift_of(read, item)
    assert drift.undocumented_fields == {"*": 2, "phone_call.*": 1}
    assert drift.invalid_values == {"to_number": 1}


def test_an_undocumented_enum_value_is_named_with_its_column(read: Reader) -> None:
    """A missing value is not an undocumented one."""
    items: list[dict[str, Any]] = [
        {"status": "lost", "messages": [{"role": "tool"}, {"role": "agent"}]},
        {"status": "ended", "type": "fax"},
        {"status": "lost", "cost_breakdown": {"voice": {"provider": "new"}}},
        {"type": None, "uri": "anything"},
    ]
    assert drift_of(read, *items).undocumented_values == {
        "conversations.status": {"lost"},
        "conversations.type": {"fax"},
        "conversations.voice_cost_provider": {"new"},
        "conversation_messages.role": {"tool"},
    }


def test_invalid_values_are_counted_by_column(read: Reader) -> None:
    """A value of a configuration counts once per conversation that has it."""
    odd: dict[str, Any] = {"status": 7, "agent_config": {"voice": "susan"}, "messages": [7, {"role": 1}]}
    assert drift_of(read, odd, odd, {}).invalid_values == {
        "status": 2,
        "agent_config.voice": 2,
        "messages[]": 2,
        "role": 2,
    }


def test_filtered_conversations_have_no_drift(read: Reader) -> None:
    """Their values are in no row."""
    assert not drift_of(read, {"status": "started", "x": 1, "type": 7}, statuses=["ended"])


def test_empty_drift_is_false() -> None:
    """Its text is empty."""
    assert not Drift()
    assert str(Drift()) == ""
    assert Drift().as_dict() == {"invalid_values": {}, "undocumented_fields": {}, "undocumented_values": {}}


FIRST = Drift(Counter(a=2), Counter({"x": 1}), {"t.status": {"lost"}})
MORE = Drift(Counter(a=1, b=1), Counter({"x": 1, "y": 3}), {"t.status": {"lost", "new"}, "t.type": {"fax"}})


def test_drift_adds_up() -> None:
    """Counts are added and names joined; the argument does not change."""
    drift = Drift()
    for other in (FIRST, MORE):
        drift.update(other)
    assert drift.as_dict() == {
        "invalid_values": {"a": 3, "b": 1},
        "undocumented_fields": {"x": 2, "y": 3},
        "undocumented_values": {"t.status": ["lost", "new"], "t.type": ["fax"]},
    }
    assert Drift(Counter(a=2), Counter({"x": 1}), {"t.status": {"lost"}}) == FIRST


def test_the_difference_holds_new_names_only() -> None:
    """A name that is known already is left out, whatever its count."""
    assert MORE.difference(FIRST) == Drift(
        Counter(b=1), Counter({"y": 3}), {"t.status": {"new"}, "t.type": {"fax"}}
    )
    assert not MORE.difference(MORE)
    assert MORE.difference(Drift()) == MORE


def test_text_of_drift_is_one_short_line() -> None:
    """It shows the first fifty names."""
    assert str(MORE) == (
        "invalid values in a, b; undocumented fields x, y; undocumented t.status: lost, new; undocumented t.type: fax"
    )
    many = Drift(undocumented_fields=Counter(f"key{n:03}" for n in range(80)))
    assert str(many).endswith("key049, ...")
    assert len(many.as_dict()["undocumented_fields"]) == 50


def exported(target: MemoryDestination, *pages: list[dict[str, Any]], **options: Any) -> ExportReceipt:
    """Export pages of these conversations."""
    raw = [
        RawPage(tuple(as_page(json.dumps(item)) for item in page), tuple(item["id"] for item in page), True)
        for page in pages
    ]
    return export_pages(raw, interval=INTERVAL, target=target, exported_at=EXPORTED_AT, **options)


def test_drift_is_logged_once_and_kept(caplog: pytest.LogCaptureFixture) -> None:
    """The receipt has all names with their counts."""
    caplog.set_level(logging.WARNING, logger="voiceos_provider")
    receipt = exported(
        MemoryDestination(), [{"id": "a", "x": 1}], [{"id": str(n), "x": 1, "y": 2} for n in range(9)]
    )
    assert caplog.messages == [
        "Schema drift: the API sends what its contract does not document; it is kept: undocumented fields x.",
        "Schema drift: the API sends what its contract does not document; it is kept: undocumented fields y.",
    ]
    assert receipt.undocumented_fields == {"x": 10, "y": 9}


@pytest.mark.parametrize(
    ("item", "named"),
    [
        ({"x": 1}, "undocumented fields x"),
        ({"status": "lost"}, "undocumented conversations.status: lost"),
        ({"started_at": 7}, "invalid values in started_at"),
    ],
)
def test_schema_drift_can_fail_the_export(item: dict[str, Any], named: str) -> None:
    """Nothing is published, and the error names the drift and the option that accepts it."""
    target = MemoryDestination()
    with pytest.raises(VoiceOSContractError) as caught:
        exported(target, [{"id": "a"}], [{"id": "b"} | item], schema_drift="fail")
    assert str(caught.value) == (
        f"GET /conversations: {named}. Set schema_drift='keep' to export it all the same."
    )
    assert target.table is None
    exported(target, [{"id": "a"}], schema_drift="fail")
    exported(target, [{"id": "b"} | item])
    assert target.table is not None
    assert target.table.column("id").to_pylist() == ["b"]


def test_an_undocumented_state_is_named_and_pending() -> None:
    """Otherwise a new state would be missing from an export of the documented ones, without notice."""
    items = [msgspec.Raw(b'{"id": "a", "status": "transferred"}'), msgspec.Raw(b'{"id": "b", "status": 7}')]
    decoded = Decoder(INTERVAL, EXPORTED_AT, statuses=["ended"]).decode(items)
    assert (decoded.exported, decoded.filtered, decoded.pending) == (0, 0, ["a", "b"])
    assert decoded.drift.undocumented_values == {"conversations.status": {"transferred"}}
    assert decoded.drift.invalid_values == {"status": 1}


def test_an_undocumented_field_of_a_configuration_is_named(read: Reader) -> None:
    """The fields of a provider and of metadata are open."""
    config = {
        "brand_new": 1,
        "language_model": {"provider": "newco", "shiny": 2},
        "webhooks": [{"url": "https://a.example", "secret_sauce": 1}],
        "voice": {"provider": "elevenlabs", "stability": 0.5},
        "metadata": {"anything": "goes"},
    }
    assert drift_of(read, {"agent_config": config}, {"agent_config": config}).undocumented_fields == {
        "agent_config.brand_new": 2,
        "agent_config.language_model.shiny": 2,
        "agent_config.webhooks.[].secret_sauce": 2,
    }


def test_an_enum_value_that_may_be_content_is_masked(read: Reader) -> None:
    """Log and receipt hold states and reasons, and no sentence or phone number."""
    drift = drift_of(
        read, {"ended_reason": "transferred to +1 555 010 0123"}, {"ended_reason": "transferred"}
    )
    assert drift.undocumented_values == {"conversations.ended_reason": {"*", "transferred"}}


def test_undocumented_enum_values_of_a_configuration_are_named(read: Reader) -> None:
    """Providers by their column, the enums of webhooks and hooks by their path."""
    config = {
        "voice": {"provider": "newvoice"},
        "language_model": {"provider": "openai"},
        "transcriber": {"provider": "newscriber"},
        "webhooks": [
            {"method": "PUT", "events": ["conversation:ended", "conversation:paused"]},
            {"method": "POST"},
        ],
        "hooks": [{"events": ["speech:started"], "instructions": [{"instruction": "transfer"}]}],
    }
    drift = drift_of(read, {"agent_config": config}, {"agent_config": {"voice": {"provider": "rime"}}}, {})
    assert drift.undocumented_values == {
        "conversations.voice_provider": {"newvoice"},
        "conversations.transcriber_provider": {"newscriber"},
        "agent_config.webhooks.[].method": {"PUT"},
        "agent_config.webhooks.[].events.[]": {"conversation:paused"},
        "agent_config.hooks.[].instructions.[].instruction": {"transfer"},
    }
    assert drift.invalid_values == {}
