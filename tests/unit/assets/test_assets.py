"""What may be written for `voiceos://`."""

from __future__ import annotations

import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from voiceos_provider.assets import voiceos as assets
from voiceos_provider.transform.schema import CONVERSATIONS


def test_an_asset_names_an_account_and_a_table() -> None:
    """The table of conversations, if no other is named."""
    assert assets.create_asset(account="acme").uri == "voiceos://acme/conversations"
    assert assets.create_asset(account="acme", table="agent_configs").uri == "voiceos://acme/agent_configs"


def test_a_slash_at_the_end_is_no_other_asset() -> None:
    """Nor is one at the beginning."""
    assert (
        assets.sanitize_uri(urlsplit("voiceos://acme//conversations/")).geturl()
        == "voiceos://acme/conversations"
    )


@pytest.mark.parametrize(
    "uri", ["voiceos:///conversations", "voiceos://acme", "voiceos://acme/a/b", "voiceos://acme/a?b=c"]
)
def test_what_names_neither_is_refused(uri: str) -> None:
    """With how one looks."""
    with pytest.raises(ValueError, match="write it like voiceos://my-account/conversations"):
        assets.sanitize_uri(urlsplit(uri))


def test_openlineage_knows_it_by_the_same_name_as_the_exports_input() -> None:
    """So that both are one node of the graph."""
    dataset = assets.convert_asset_to_openlineage(assets.create_asset(account="api.voiceos.io"), None)
    assert (dataset.namespace, dataset.name) == ("voiceos://api.voiceos.io", "conversations")


def test_the_account_of_an_api_is_its_host() -> None:
    """And its port, if it has one."""
    assert assets.api_of("https://api.voiceos.io") == "api.voiceos.io"
    assert assets.api_of("http://127.0.0.1:8321/v1") == "127.0.0.1:8321"


def test_the_table_is_the_declarations() -> None:
    """It is written twice, so that this module is quick to import."""
    assert CONVERSATIONS.name == assets.CONVERSATIONS


def test_a_dag_file_that_names_an_asset_does_not_load_the_rest() -> None:
    """Airflow imports this module for each DAG file with any asset at all."""
    code = (
        "import sys, voiceos_provider.assets.voiceos; "
        "print([name for name in ('pandas', 'pyarrow', 'httpx', 'airflow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
