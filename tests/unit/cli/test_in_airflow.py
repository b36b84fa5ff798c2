"""`airflow voiceos ...`: the same commands, with a Connection."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

import pytest

from voiceos_provider.cli.in_airflow import get_commands
from voiceos_provider.cli.main import voiceos as terminal
from voiceos_provider.emulator import Emulator, World

Run = Callable[..., tuple[int, str, str]]


def document(out: str) -> Any:
    """The JSON at the end: Airflow logs to where it prints."""
    start = min(at for mark in "[{" if (at := f"\n{out}".find(f"\n{mark}\n")) >= 0)
    return json.loads(out[start:])


@pytest.fixture(scope="module")
def airflow_db() -> None:
    """A metadata database, for connections are looked up there, too."""
    from airflow.utils import db

    db.initdb()


@pytest.fixture
def airflow_voiceos(capsys: pytest.CaptureFixture[str]) -> Run:
    """Parse and run as Airflow does: `airflow_voiceos("doctor", "--conn-id", "x")`."""
    (group,) = get_commands()
    parser = argparse.ArgumentParser(group.name)
    commands = parser.add_subparsers(required=True)
    for action in group.subcommands:
        sub = commands.add_parser(action.name, help=action.help, description=action.description)
        for argument in action.args:
            argument.add_to_parser(sub)
        sub.set_defaults(func=action.func)

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        arguments = parser.parse_args([str(word) for word in words])
        with pytest.raises(SystemExit) as ended:
            arguments.func(arguments)
        return int(str(ended.value)), *capsys.readouterr()

    return run


def test_the_connection_says_where_the_api_is(airflow_voiceos: Run, api: Emulator) -> None:
    """And with which token."""
    code, out, _ = airflow_voiceos("doctor", "--json")
    assert code == 0
    assert document(out)["base_url"].startswith("http://127.0.0.1")


def test_a_preview_takes_its_options(airflow_voiceos: Run, api: Emulator, world: World) -> None:
    """Flags, values, and what is given again."""
    code, out, _ = airflow_voiceos("preview", "--json", "--rows", 2, "--table", "conversations", "--personal")
    assert code == 0
    rows = document(out)
    assert {row["id"] for row in rows} <= set(world.ids())
    assert "extra" in rows[0]


def test_an_export_is_the_operators(airflow_voiceos: Run, api: Emulator, tmp_path: Any) -> None:
    """With the storage's Connection, too; none is needed for a folder."""
    code, out, _ = airflow_voiceos(
        "export", tmp_path, "--tables", "conversations", "--status", "ended", "--redaction", "prompts=drop"
    )
    assert code == 0
    assert "conversations created from" in out
    assert len(list((tmp_path / "conversations").iterdir())) == 1
    assert [folder.name for folder in tmp_path.iterdir() if not folder.name.startswith("_")] == [
        "conversations"
    ]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("doctor", "--conn-id", "nobody"), 2, "nobody"),
        (("preview", "--table", "calls"), 2, "'calls' is not one of"),
        (("export", "x", "--status", "over"), 2, "'over' is not one of queued"),
        (("export", "x", "--max-bad-records", "few"), 2, "'few' is not a number"),
        (("preview", "--rows", "many"), 2, "'many' is not a valid integer"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    airflow_voiceos: Run, api: Emulator, airflow_db: None, words: tuple[str, ...], code: int, said: str
) -> None:
    """With the same exit code as `voiceos`."""
    found, _, err = airflow_voiceos(*words)
    lines = [line for line in err.splitlines() if line.startswith("airflow voiceos: ")]
    assert found == code
    assert len(lines) == 1
    assert said in lines[0]


def test_a_refused_token_is_code_3(airflow_voiceos: Run, api: Emulator, connect: Any, tmp_path: Any) -> None:
    """For each command that asks the API."""
    with Emulator(api.world, token="another").serve() as url:
        connect("wrong", host=url, password="emulator-token")
        assert airflow_voiceos("doctor", "--conn-id", "wrong")[0] == 3
        assert airflow_voiceos("export", tmp_path, "--conn-id", "wrong")[0] == 3


def test_every_command_that_needs_no_process_of_its_own_is_there() -> None:
    """What the terminal has, Airflow has, but for the emulator."""
    (group,) = get_commands()
    assert {action.name for action in group.subcommands} == set(terminal.commands) - {"emulator"}


def test_the_tables_are_printed_without_a_connection(airflow_voiceos: Run) -> None:
    """As the terminal prints them: what stands in no option is an argument here, too."""
    code, out, _ = airflow_voiceos("ddl", "postgres", "--schema", "voice", "--rejected")
    assert code == 0
    assert out.count("CREATE TABLE") == 5
    assert '"voice"."rejected_conversations"' in out
    assert airflow_voiceos("ddl", "oracle")[0] == 2
