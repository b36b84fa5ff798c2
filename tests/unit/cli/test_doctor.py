"""`voiceos doctor`: what it finds, and what it does not."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from voiceos_provider.cli.doctor import examine
from voiceos_provider.cli.output import exit_code
from voiceos_provider.client import ClientConfig
from voiceos_provider.emulator import Emulator, Fault, World


def outcomes(report: dict[str, Any]) -> dict[str, str]:
    """Each check's outcome."""
    return {check["name"]: check["outcome"] for check in report["checks"]}


def check(report: dict[str, Any], name: str) -> dict[str, Any]:
    """One check."""
    (found,) = (item for item in report["checks"] if item["name"] == name)
    return found


@pytest.fixture
def many(yesterday: tuple[datetime, datetime]) -> World:
    """More conversations than the largest page holds."""
    start, end = yesterday
    return World(seed=3, conversations=2_500, start=start - timedelta(days=1), end=end)


def test_a_healthy_api_is_all_well(voiceos: Any, many: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every check is ok, and no conversation is shown."""
    emulator = Emulator(many)
    with emulator.serve() as url:
        monkeypatch.setenv("VOICEOS_BASE_URL", url)
        monkeypatch.setenv("VOICEOS_TOKEN", emulator.token)
        ran = voiceos("doctor", "--json", "--strict")
    assert ran.code == ran.json["exit_code"] == 0
    assert set(outcomes(ran.json).values()) == {"ok"}
    assert list(outcomes(ran.json)) == [
        "API",
        "clock",
        "token",
        "page size",
        "shape",
        "paging",
        "dates",
        "status",
    ]
    assert not [id_ for id_ in many.ids() if id_ in ran.out]


def test_people_read_the_same(voiceos: Any, served: Emulator) -> None:
    """A line per check."""
    ran = voiceos("doctor")
    assert ran.code == 0
    assert len([line for line in ran.out.splitlines() if line.startswith(("ok", "unknown", "warning"))]) == 8


def test_a_refused_token_ends_it(voiceos: Any, served: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """What relies on the token is not asked; the host is told from the token."""
    monkeypatch.setenv("VOICEOS_TOKEN", "wrong")
    ran = voiceos("doctor", "--json")
    assert ran.code == 3
    assert outcomes(ran.json) == {"API": "ok", "clock": "ok", "token": "failed"}


def test_a_host_that_does_not_respond_is_code_1(
    voiceos: Any, monkeypatch: pytest.MonkeyPatch, emulator: Emulator
) -> None:
    """After one attempt."""
    with emulator.serve() as url:
        pass
    monkeypatch.setenv("VOICEOS_BASE_URL", url)
    monkeypatch.setenv("VOICEOS_TOKEN", "t")
    ran = voiceos("doctor", "--json")
    assert ran.code == 1
    assert outcomes(ran.json) == {"API": "failed", "clock": "unknown"}


def test_a_page_size_that_is_clamped_shows(
    voiceos: Any, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the size to set in its place."""
    emulator = Emulator(world, max_limit=40)
    with emulator.serve() as url:
        monkeypatch.setenv("VOICEOS_BASE_URL", url)
        monkeypatch.setenv("VOICEOS_TOKEN", emulator.token)
        report = voiceos("doctor", "--json").json
        strict = voiceos("doctor", "--json", "--strict")
    found = check(report, "page size")
    assert (found["outcome"], found["honoured"]) == ("warning", 40)
    assert "set page_size to 40" in found["message"]
    assert report["exit_code"] == 0
    assert strict.code == 4


@pytest.mark.parametrize(("limit", "outcome"), [(100, "ok"), (50, "failed")])
def test_a_page_size_that_is_refused_differs_from_one_that_is_too_large_for_the_connection(
    many: World, limit: int, outcome: str
) -> None:
    """The check asks for more than an export would."""
    emulator = Emulator(many)

    class Strict(httpx.BaseTransport):
        """As an API that validates its query; the contract shows such a response."""

        inner = emulator.transport()

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            if int(request.url.params.get("limit", 0)) <= limit:
                return self.inner.handle_request(request)
            detail = [
                {"loc": ["query", "limit"], "msg": f"must be at most {limit}", "type": "less_than_equal"}
            ]
            return httpx.Response(422, stream=httpx.ByteStream(json.dumps({"detail": detail}).encode()))

    settings = ClientConfig(token=emulator.token, base_url="http://emulator", page_size=100)
    found = {finding.name: finding for finding in examine(settings, transport=Strict())}
    assert found["page size"].outcome == outcome
    if outcome == "ok":
        assert "accepts page_size=100" in found["page size"].message
        assert found["shape"].outcome == "ok"
    else:
        error = found["page size"].error
        assert error
        assert exit_code(error) == 4
        assert "limit" in str(error)


def test_a_clock_that_is_wrong_shows(many: World) -> None:
    """With its direction; a second more or less is none."""
    emulator = Emulator(many)
    settings = ClientConfig(token=emulator.token, base_url="http://emulator")
    for wrong, said in ((timedelta(minutes=-10), "behind"), (timedelta(hours=1), "ahead of")):
        with emulator.serve() as url:
            there = ClientConfig(token=emulator.token, base_url=url)
            found = examine(there, now=lambda wrong=wrong: datetime.now(UTC) + wrong)[1]
        assert found.outcome == "warning"
        assert said in found.message
        assert abs(found.measured["skew_seconds"] - wrong.total_seconds()) < 5
    assert settings.page_size == 100


@pytest.mark.parametrize(
    ("extra", "name"),
    [
        ({"brand_new": 1}, "brand_new"),
        ({"ended_reason": "alien"}, "alien"),
        ({"started_at": 5}, "started_at"),
    ],
)
def test_undocumented_fields_and_values_are_named(
    voiceos: Any, served: Emulator, world: World, extra: dict[str, Any], name: str
) -> None:
    """The report has names and no content."""
    page = {"items": [{"id": "a", "status": "ended", **extra}], "index": 1, "has_more": False}
    # The first listing is the token's, the second the largest page.
    served.faults.add(Fault.body(json.dumps(page).encode()), at=[2])
    report = voiceos("doctor", "--json").json
    found = check(report, "shape")
    assert found["outcome"] == "warning"
    assert name in found["message"]


@pytest.mark.parametrize(
    ("number", "name", "said"),
    [
        (4, "paging", "repeats page 1"),
        (5, "dates", "ignores created_before"),
        (7, "status", "ignores status"),
    ],
)
def test_a_server_that_ignores_a_parameter_is_found_out(
    voiceos: Any, served: Emulator, number: int, name: str, said: str
) -> None:
    """The exit code says that the contract is broken."""
    page = {"items": [{"id": "a", "status": "started"}], "index": 1, "has_more": True}
    body = json.dumps(page).encode()
    served.faults.add(Fault.body(body), at=[3, 4] if name == "paging" else [number])
    ran = voiceos("doctor", "--json")
    assert ran.code == 4
    assert outcomes(ran.json)[name] == "failed"
    assert said in check(ran.json, name)["message"]
