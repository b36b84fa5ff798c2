"""Contents and metadata of the wheel."""

import os
import re
import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
from hatchling.build import build_editable

import voiceos_provider


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    """Return the paths in the wheel."""
    return set(zipfile.ZipFile(wheel).namelist())


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    """Return the wheel's METADATA."""
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(archive.read(name).decode())


def test_every_module_of_the_package_is_in_the_wheel(names: set[str], checkout: Path) -> None:
    """The wheel carries each file of the package, the emulator and the typing marker among them."""
    sources = {
        str(file.relative_to(checkout))
        for file in (checkout / "voiceos_provider").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    moved = {"voiceos_provider/_airflow_example_dags.py"}
    assert sources - names == moved
    assert "voiceos_provider/py.typed" in names
    assert any(name.startswith("voiceos_provider/emulator") for name in names)


def test_nothing_else_is_in_the_wheel(names: set[str]) -> None:
    """Tests, tools and top-level names that are not ours stay out of a user's site-packages."""
    tops = {name.split("/")[0] for name in names}
    assert tops == {
        "voiceos_provider",
        "airflow_provider_voiceos",
        f"airflow_provider_voiceos-{voiceos_provider.__version__}.dist-info",
    }


def test_example_dags_are_where_airflow_looks(names: set[str], example_files: set[str]) -> None:
    """The example DAGs lie in the package that is named after the distribution."""
    assert example_files
    alias = {name for name in names if name.startswith("airflow_provider_voiceos/")}
    examples = {f"airflow_provider_voiceos/example_dags/{file}" for file in example_files}
    assert alias == {"airflow_provider_voiceos/__init__.py"} | examples


def test_metadata_has_the_version_the_licence_and_the_bounds(metadata: Message) -> None:
    """The wheel has the package's version and licence, and no dependency is capped from above."""
    assert metadata["Version"] == voiceos_provider.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert metadata["Requires-Python"] == ">=3.11"
    stores = {"s3", "gcs", "azure"}
    databases = {
        "postgres",
        "duckdb",
        "mysql",
        "redshift",
        "snowflake",
        "clickhouse",
        "bigquery",
        "databricks",
    }
    others = {"iceberg", "delta", "polars", "openlineage"}
    assert set(metadata.get_all("Provides-Extra", [])) == stores | databases | others
    bounded = [requirement for requirement in metadata.get_all("Requires-Dist", []) if "<" in requirement]
    assert [requirement for requirement in bounded if "extra ==" not in requirement] == []


def test_metadata_has_a_documentation_link(metadata: Message) -> None:
    """Airflow's list of providers links to the documentation that the metadata names."""
    labels = {url.split(",")[0] for url in metadata.get_all("Project-URL", [])}
    assert {"Documentation", "Changelog", "Issues", "Source"} <= labels


def test_links_of_the_description_lead_to_the_files_of_the_version(metadata: Message, checkout: Path) -> None:
    """An index shows the README without the files that it links to."""
    links = re.findall(r"\]\(([^)\s]+)", str(metadata.get_payload()))
    ours = (
        f"https://github.com/airflow-provider-voiceos/airflow-provider-voiceos/blob/v{metadata['Version']}/"
    )
    files = {link.removeprefix(ours).partition("#")[0] for link in links if link.startswith(ours)}
    assert "docs/troubleshooting.md" in files
    assert [file for file in files if not (checkout / file).is_file()] == []
    assert [link for link in links if not link.startswith("https://")] == []


def test_editable_install_shows_the_example_dags_of_the_checkout(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A developer's Airflow finds the example DAGs too, and finds the files being edited, not copies."""
    monkeypatch.chdir(checkout)
    archive = zipfile.ZipFile(tmp_path / build_editable(str(tmp_path)))
    site = tmp_path / "site"
    archive.extractall(site)
    code = (
        f"import site; site.addsitedir({str(site)!r}); "
        "import airflow_provider_voiceos as alias; print(alias.__file__, *alias.__path__, sep='\\n')"
    )
    # -S: not the test environment's site-packages, which hold an alias of their own; -I: nor PYTHONPATH.
    printed = subprocess.check_output([sys.executable, "-I", "-S", "-c", code], cwd=tmp_path, text=True)
    alias, *folders = printed.splitlines()
    assert alias == str(site / "airflow_provider_voiceos/__init__.py")
    assert [os.path.realpath(folder) for folder in folders] == [str(checkout.resolve())]
