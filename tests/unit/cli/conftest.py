"""Set-up of the command-line tests: run a command as a shell would."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from voiceos_provider.cli.main import main
from voiceos_provider.emulator import Emulator


@dataclass(frozen=True)
class Ran:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, parsed as one JSON document."""
        return json.loads(self.out)


Voiceos = Callable[..., Ran]


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VOICEOS_TOKEN", "VOICEOS_BASE_URL", "VOICEOS_PHONE_HASH_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def voiceos(capsys: pytest.CaptureFixture[str]) -> Voiceos:
    """Return a function that runs a command: `voiceos("doctor", "--json")`."""

    def run(*arguments: object) -> Ran:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Ran(code, *capsys.readouterr())

    return run


@pytest.fixture
def served(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """Serve the emulator on a port, with its URL and token in the environment."""
    with emulator.serve() as url:
        monkeypatch.setenv("VOICEOS_BASE_URL", url)
        monkeypatch.setenv("VOICEOS_TOKEN", emulator.token)
        yield emulator
