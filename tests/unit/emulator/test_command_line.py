"""Command line of the emulator."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys

import httpx
import pytest

from voiceos_provider.emulator import Emulator
from voiceos_provider.emulator.__main__ import main

_COMMAND = [sys.executable, "-m", "voiceos_provider.emulator"]


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_it_prints_instructions_serves_and_ends_cleanly(end: signal.Signals) -> None:
    """The printed connection and request work unchanged."""
    with subprocess.Popen(
        [*_COMMAND, "--port", "0", "--conversations", "50", "--days", "30", "--token", "my-token", "--max-limit", "5",
         "--order", "created_asc", "--server", "empty_items=null", "--requests-per-second", "2",
         "--fault", "flag_missing@1"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        printed = ""
        while "Ctrl-C" not in printed:
            line = process.stdout.readline()
            assert line, "It ended before it served."
            printed += line
        connection = json.loads(re.findall(r"AIRFLOW_CONN_VOICEOS_DEFAULT='(.*)'", printed)[0])
        assert connection["conn_type"] == "voiceos"
        header, url = re.findall(r"curl -H '(.*)' '(.*)'", printed)[0]
        assert url.startswith(connection["host"])
        assert header == f"Authorization: Bearer {connection['password']}"
        page = httpx.get(
            f"{connection['host']}/conversations",
            headers={"Authorization": f"Bearer {connection['password']}"},
        ).json()
        assert list(page) == ["items", "index"]
        assert len(page["items"]) == 5
        empty = httpx.get(
            f"{connection['host']}/conversations?index=1000",
            headers={"Authorization": f"Bearer {connection['password']}"},
        )
        assert empty.json()["items"] is None
        again = [httpx.get(f"{connection['host']}/conversations").status_code for _ in range(10)]
        assert 429 in again
        process.send_signal(end)
        assert process.wait(timeout=5) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_a_port_in_use_is_reported(capsys: pytest.CaptureFixture[str], emulator: Emulator) -> None:
    """The error is one line, without a traceback."""
    with emulator.serve() as url:
        code = main(["--port", url.rpartition(":")[2], "--conversations", "1"])
    assert code == 1
    assert "Cannot listen on 127.0.0.1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--fault", "typo@0.5"], "name among rate_limit, "),
        (["--days", "0"], "less than 1"),
        (["--requests-per-second", "0"], "not positive"),
        (["--requests-per-second", "many"], "invalid"),
        (["--order", "random"], "invalid choice"),
        (["--server", "has_more=perhaps"], "use one of correct, missing"),
        (["--server", "speed=1"], "name among order, "),
    ],
)
def test_an_invalid_option_is_explained(
    capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    """The error says what would be valid."""
    with pytest.raises(SystemExit):
        main(arguments)
    assert complaint in capsys.readouterr().err


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    """The help also names every fault and every server option."""
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    for word in ("--host", "--port", "--seed", "--conversations", "--days", "--token", "--max-limit", "--latency",
                 "--order", "--requests-per-second", "--fault", "gzip_bomb", "flag_legacy",
                 "--server", "replica_lag"):  # fmt: skip
        assert word in text
