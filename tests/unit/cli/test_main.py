"""The command as a whole: its commands, its errors, its exit codes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from voiceos_provider import __version__
from voiceos_provider.cli.main import voiceos
from voiceos_provider.cli.output import EXIT_CODES, exit_code
from voiceos_provider.emulator import Emulator, Fault
from voiceos_provider.exceptions import (
    VoiceOSAuthError,
    VoiceOSConnectionError,
    VoiceOSContractError,
    VoiceOSDestinationError,
    VoiceOSError,
    VoiceOSValueError,
)


def test_alone_it_shows_its_commands(voiceos: Any) -> None:
    """The name alone shows the help."""
    ran = voiceos()
    assert ran.code == 0
    for command in ("doctor", "preview", "export", "schema", "emulator"):
        assert re.search(rf"^  {command} ", ran.out, re.MULTILINE)


def test_it_prints_its_version(voiceos: Any) -> None:
    """That of the package."""
    assert voiceos("--version").out.strip() == f"voiceos, version {__version__}"


@pytest.mark.parametrize(
    "arguments",
    [
        ["doctr"],
        ["export"],
        ["schema", "--tabel", "x"],
        ["ddl", "oracle"],
        ["doctor", "--page-size", "many"],
        ["export", "x", "--max-bad-records", "y"],
    ],
)
def test_a_wrong_command_line_costs_one_line(voiceos: Any, arguments: list[str]) -> None:
    """On standard error, with the place to look; the code is 2."""
    ran = voiceos(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert len(ran.err.splitlines()) == 1
    assert ran.err.startswith("voiceos: ")
    assert "--help" in ran.err


def test_no_token_says_where_it_goes(voiceos: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal to ask at."""
    monkeypatch.setattr("sys.stdin", open("/dev/null"))  # noqa: SIM115
    ran = voiceos("doctor")
    assert ran.code == 2
    assert ran.err == "voiceos: No API token. Set VOICEOS_TOKEN, or use --token-file.\n"


def test_a_refused_token_is_code_3_and_not_shown(
    voiceos: Any, served: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The line says where the token came from."""
    monkeypatch.setenv("VOICEOS_TOKEN", "wrong-and-secret")
    ran = voiceos("export", tmp_path)
    assert ran.code == 3
    assert "401" in ran.err
    assert "VOICEOS_TOKEN" in ran.err
    assert "wrong-and-secret" not in ran.err + ran.out
    assert len(ran.err.splitlines()) == 1


def test_the_token_may_come_from_a_file(
    voiceos: Any, served: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With a line break at its end, as editors leave it; a file that is named comes before the environment."""
    monkeypatch.setenv("VOICEOS_TOKEN", "wrong")
    (tmp_path / "token").write_text(f"{served.token}\n")
    assert voiceos("preview", "--token-file", tmp_path / "token").code == 0


@pytest.mark.parametrize(
    ("environment", "arguments", "cure"),
    [
        ({"VOICEOS_TOKEN": "wrong"}, [], "VOICEOS_TOKEN"),
        ({"VOICEOS_TOKEN": "two words"}, [], "VOICEOS_TOKEN"),
        ({"VOICEOS_BASE_URL": "ftp://x"}, [], "--base-url like https://"),
        ({"VOICEOS_BASE_URL": "http://api.example.com"}, [], "--allow-http"),
        ({}, ["--page-size", "0"], "page_size"),
        ({}, ["--ca-bundle", "/nowhere"], "--ca-bundle"),
        ({"VOICEOS_BASE_URL": "http://127.0.0.1:9"}, ["--max-attempts", "1"], "--base-url"),
    ],
)
def test_a_message_names_options_and_no_field_of_a_connection(
    voiceos: Any,
    served: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    environment: dict[str, str],
    arguments: list[str],
    cure: str,
) -> None:
    """There is no Airflow connection here, so no message may send the reader to one."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for command in (["export", tmp_path], ["doctor"]):
        ran = voiceos(*command, *arguments)
        text = ran.out + ran.err
        assert ran.code != 0
        assert cure in text
        assert not re.search(r"[Cc]onnection (\'|field)|[Cc]onnection's|the extra |password field", text), (
            text
        )


def test_each_failed_attempt_is_shown(voiceos: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One line on standard error per attempt, while the command waits for a host that does not respond."""
    monkeypatch.setenv("VOICEOS_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("VOICEOS_TOKEN", "t")
    for command in (["export", tmp_path], ["preview"]):
        ran = voiceos(*command, "--max-attempts", 3)
        assert ran.code == 1
        assert re.findall(r"Attempt (\d) of 3 failed", ran.err) == ["1", "2"]
        assert len([line for line in ran.err.splitlines() if "Attempt" in line]) == 2
        assert ran.err.splitlines()[-1].startswith("voiceos: ")


def test_a_plain_http_server_without_its_scheme_is_named_at_once(
    voiceos: Any, served: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A base URL without a scheme means https; one line says to write http://, without further attempts."""
    monkeypatch.setenv("VOICEOS_BASE_URL", os.environ["VOICEOS_BASE_URL"].removeprefix("http://"))
    for command in (["export", tmp_path], ["preview"], ["doctor"]):
        ran = voiceos(*command)
        assert ran.code == 1
        assert "write http:// before the host" in ran.out + ran.err
        assert "Attempt" not in ran.err


def test_no_option_takes_a_token() -> None:
    """It would be in the list of processes."""
    names = {option for command in voiceos.commands.values() for p in command.params for option in p.opts}
    assert not {name for name in names if "token" in name or "key" in name} - {
        "--token-file",
        "--phone-hash-key-file",
    }


def test_an_api_that_is_not_there_is_code_1(voiceos: Any, served: Emulator, tmp_path: Path) -> None:
    """One line, after the given number of attempts."""
    served.faults.add(Fault.server_error(503), probability=1)
    ran = voiceos("export", tmp_path, "--max-attempts", 1)
    assert ran.code == 1
    assert ran.err.splitlines()[-1].startswith("voiceos: GET /conversations: 503")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (VoiceOSConnectionError("m"), 1),
        (VoiceOSValueError("m"), 2),
        (VoiceOSAuthError("m"), 3),
        (VoiceOSContractError("m"), 4),
        (VoiceOSDestinationError("m"), 5),
        (VoiceOSError("m"), 1),
    ],
)
def test_each_kind_of_error_has_its_code(error: VoiceOSError, code: int) -> None:
    """The help lists every code."""
    assert exit_code(error) == code
    assert code in EXIT_CODES
    assert re.search(rf"\b{code}\b", voiceos.epilog or "")


def test_it_starts_without_airflow_and_without_what_only_exports_need() -> None:
    """So that help comes at once, and a laptop needs no Airflow home."""
    code = (
        "import sys; from voiceos_provider.cli.main import main; main(['--help']); main(['export', '--help']); "
        "print([name for name in ('airflow', 'httpx', 'pandas', 'pyarrow', 'rich') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_an_export_loads_no_airflow(served: Emulator, tmp_path: Path) -> None:
    """From the first import to the last file."""
    code = (
        "import sys; from voiceos_provider.cli.main import main; "
        f"assert main(['export', {str(tmp_path)!r}]) == 0; print('airflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
