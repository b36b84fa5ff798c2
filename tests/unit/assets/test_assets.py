"""URIs with the scheme `voiceos://`."""

from __future__ import annotations

import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from voiceos_provider.assets import voiceos as assets
from voiceos_provider.transform.schema import CONVERSATIONS


def test_asset_names_an_account_and_a_table() -> None:
    """The default is the table of conversations."""
    assert assets.create_asset(account="acme").uri == "voiceos://acme/conversations"
    assert assets.create_asset(account="acme", table="agent_configs").uri == "voiceos://acme/agent_configs"


def test_slashes_at_the_ends_make_no_difference() -> None:
    """They are removed."""
    assert (
        assets.sanitize_uri(urlsplit("voiceos://acme//conversations/")).geturl()
        == "voiceos://acme/conversations"
    )


@pytest.mark.parametrize(
    "uri", ["voiceos:///conversations", "voiceos://acme", "voiceos://acme/a/b", "voiceos://acme/a?b=c"]
)
def test_incomplete_uri_is_rejected(uri: str) -> None:
    """The message shows a valid one."""
    with pytest.raises(ValueError, match="write it like voiceos://my-account/conversations"):
        assets.sanitize_uri(urlsplit(uri))


def test_openlineage_name_equals_that_of_the_input_of_an_export() -> None:
    """Both are one node of the graph."""
    dataset = assets.convert_asset_to_openlineage(assets.create_asset(account="api.voiceos.io"), None)
    assert (dataset.namespace, dataset.name) == ("voiceos://api.voiceos.io", "conversations")


def test_account_is_the_host_of_the_api() -> None:
    """It includes the port, if there is one."""
    assert assets.api_of("https://api.voiceos.io") == "api.voiceos.io"
    assert assets.api_of("http://127.0.0.1:8321/v1") == "127.0.0.1:8321"


def test_default_table_is_the_declared_one() -> None:
    """The name is repeated so that this module is quick to import."""
    assert CONVERSATIONS.name == assets.CONVERSATIONS


def test_dag_file_with_an_asset_loads_nothing_else() -> None:
    """Airflow imports this module for each DAG file with any asset."""
    code = (
        "import sys, voiceos_provider.assets.voiceos; "
        "print([name for name in ('pandas', 'pyarrow', 'httpx', 'airflow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
