"""Provider info: Airflow accepts it, and it describes the package."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

# What the hook's class says of its connection.
HOOK = """
import json, sys
from importlib import import_module
module, _, name = sys.argv[1].rpartition(".")
hook = getattr(import_module(module), name)
print(json.dumps([hook.conn_type, hook.hook_name, hook.get_ui_field_behaviour()]))
"""

# The sections of the description that list modules, named as their folders are.
KINDS = ("hooks", "operators", "sensors", "transfers", "triggers")


def validate(instance: object, schema: dict[str, Any]) -> None:
    """Raise unless the instance is what the schema describes."""
    jsonschema.validators.validator_for(schema)(schema).validate(instance)


def test_reading_the_description_loads_nothing(installation: Any) -> None:
    """Airflow reads the description at every start, so reading it loads no module but its own."""
    modules = installation.python(
        "import sys; before = set(sys.modules)\n"
        "from voiceos_provider.get_provider_info import get_provider_info; get_provider_info()\n"
        "print(*sorted(set(sys.modules) - before))"
    ).split()
    assert modules == ["voiceos_provider", "voiceos_provider.get_provider_info"]


def test_description_is_valid_for_the_newest_airflow(info: dict[str, Any], installation: Any) -> None:
    """The Airflow that we develop with accepts the description: an invalid one stops each of its commands."""
    schema = installation.site_packages / "airflow/provider_info.schema.json"
    validate(info, json.loads(schema.read_text()))


def test_description_is_valid_for_the_oldest_airflow(info: dict[str, Any], oldest_schema: Path) -> None:
    """The oldest Airflow that we support accepts the description as well."""
    validate(info, json.loads(oldest_schema.read_text()))


def test_connection_form_is_valid_for_airflows_own_providers(info: dict[str, Any], installation: Any) -> None:
    """The connection form keeps the stricter rules that Airflow sets for providers of its own."""
    strict = json.loads((installation.site_packages / "airflow/provider.yaml.schema.json").read_text())
    schema = strict["properties"]["connection-types"] | {"definitions": strict.get("definitions", {})}
    validate(info["connection-types"], schema)


def test_every_integration_that_is_named_is_described(info: dict[str, Any]) -> None:
    """No module is listed under an undescribed integration."""
    described = {integration["integration-name"] for integration in info["integrations"]}
    entries = [entry for kind in KINDS for entry in info.get(kind, [])]
    named = {name for entry in entries for key, name in entry.items() if key.endswith("integration-name")}
    assert named == described


def test_every_module_that_is_named_can_be_imported(info: dict[str, Any], installation: Any) -> None:
    """Each module of the description can be imported with nothing but the wheel and its dependencies."""
    modules = set().union(*(named_modules(info, kind) for kind in KINDS))
    installation.python(
        "import sys; from importlib import import_module; [import_module(name) for name in sys.argv[1:]]",
        *sorted(modules),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_no_public_module_is_forgotten(kind: str, info: dict[str, Any], checkout: Path) -> None:
    """The description lists each module that DAG authors import from; their names begin with voiceos."""
    files = (checkout / "voiceos_provider" / kind).glob("voiceos*.py")
    assert named_modules(info, kind) == {f"voiceos_provider.{kind}.{file.stem}" for file in files}


def named_modules(info: dict[str, Any], kind: str) -> set[str]:
    """Return the modules that the description lists under a kind."""
    entries = info.get(kind, [])
    if kind == "transfers":
        return {entry["python-module"] for entry in entries}
    return {module for entry in entries for module in entry["python-modules"]}


def test_hook_and_description_agree_on_the_connection(info: dict[str, Any], installation: Any) -> None:
    """Airflow 2 asks the hook how its form looks and Airflow 3 asks the description: the form is the same."""
    (connection,) = info["connection-types"]
    printed = installation.python(HOOK, connection["hook-class-name"])
    conn_type, hook_name, behaviour = json.loads(printed.splitlines()[-1])
    assert (conn_type, hook_name) == (connection["connection-type"], connection["hook-name"])
    described = {name.replace("-", "_"): value for name, value in connection["ui-field-behaviour"].items()}
    assert sorted(behaviour["hidden_fields"]) == sorted(described["hidden_fields"])
    assert behaviour["relabeling"] == described["relabeling"]
    assert described["placeholders"].items() <= behaviour["placeholders"].items()
