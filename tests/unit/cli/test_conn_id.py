"""`--conn-id` and `--storage-conn-id`: the commands with Airflow connections."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from voiceos_provider.emulator import Emulator, World

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def airflow_db() -> None:
    """Create the metadata database, where Airflow looks connections up last."""
    from airflow.utils import db

    db.initdb()


def test_the_connection_sets_the_url_and_the_token(voiceos: Run, api: Emulator) -> None:
    """Standard output holds the JSON alone, although Airflow logs there."""
    ran = voiceos("doctor", "--json", "--conn-id", "voiceos_default")
    assert ran.code == 0
    assert ran.json["base_url"].startswith("http://127.0.0.1")


def test_standard_output_is_the_result_alone(api: Emulator, tmp_path: Path) -> None:
    """Also in a process that imports Airflow for the first time."""
    command = [
        sys.executable,
        "-m",
        "voiceos_provider.cli",
        "preview",
        "--json",
        "--conn-id",
        "voiceos_default",
    ]
    environment = os.environ | {"AIRFLOW_HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[\n")
    assert done.stdout.endswith("]\n")


def test_a_preview_reads_through_the_connection(voiceos: Run, api: Emulator, world: World) -> None:
    """With its own options beside --conn-id."""
    rows = voiceos("preview", "--conn-id", "voiceos_default", "--json", "--rows", 2, "--personal").json
    assert len(rows) == 2
    assert {row["id"] for row in rows} <= set(world.ids())
    assert "extra" in rows[0]


def test_an_export_hashes_with_the_key_of_the_connection(voiceos: Run, api: Emulator, tmp_path: Path) -> None:
    """The key is an extra field of the connection."""
    hashed = ["export", tmp_path, "--conn-id", "voiceos_default", "--redaction", "phone_numbers=hash"]
    assert voiceos(*hashed).code == 0
    assert len(list((tmp_path / "conversations").iterdir())) == 1


def test_a_storage_connection_opens_the_store(
    voiceos: Run, api: Emulator, airflow_db: None, connect: Callable[..., str], tmp_path: Path
) -> None:
    """An unknown one is refused before anything is read."""
    export = ["export", tmp_path, "--conn-id", "voiceos_default", "--tables", "conversations"]
    ran = voiceos(*export, "--storage-conn-id", "missing")
    assert ran.code == 2
    assert "'missing'" in ran.err
    assert api.requests == []
    connect("my_disk", conn_type="generic")
    assert voiceos(*export, "--storage-conn-id", "my_disk").code == 0
    assert len(list((tmp_path / "conversations").iterdir())) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("doctor", "--conn-id", "missing"), "No Airflow connection 'missing'"),
        (("doctor", "--conn-id", "voiceos_default", "--page-size", "5"), "--page-size cannot be used with"),
        (
            ("doctor", "--conn-id", "voiceos_default", "--base-url", "http://x"),
            "--base-url cannot be used with",
        ),
        (
            ("export", "x", "--conn-id", "voiceos_default", "--phone-hash-key-file", "/dev/null"),
            "--phone-hash-key-file cannot be used with",
        ),
        (("doctor", "--conn-id", "other_system"), "'other_system'"),
    ],
)
def test_a_wrong_use_costs_one_line(
    voiceos: Run,
    api: Emulator,
    airflow_db: None,
    connect: Callable[..., str],
    words: tuple[str, ...],
    said: str,
) -> None:
    """With exit code 2, and no request."""
    connect("other_system", conn_type="http", host="https://example.com", password="its-own-secret")
    ran = voiceos(*words)
    assert ran.code == 2
    assert said in ran.err.splitlines()[-1]
    assert "its-own-secret" not in ran.err
    assert api.requests == []


def test_a_refused_token_names_the_connection_field(
    voiceos: Run, api: Emulator, connect: Callable[..., str], tmp_path: Path
) -> None:
    """Here the token does come from there."""
    with Emulator(api.world, token="another").serve() as url:
        connect("wrong", host=url, password="emulator-token")
        assert voiceos("doctor", "--conn-id", "wrong").code == 3
        ran = voiceos("export", tmp_path, "--conn-id", "wrong")
    assert ran.code == 3
    assert "VOICEOS_TOKEN" not in ran.err
