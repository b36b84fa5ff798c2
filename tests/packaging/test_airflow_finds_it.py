"""The installed provider in an Airflow with default settings: provider list, connection form, example DAGs."""

import json
from typing import Any

import pytest

import voiceos_provider

BUNDLE = "airflow-provider-voiceos-example-dags"

# What the connection form of the web page is built from.
CONNECTION_FORM = """
import sys
from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService
(form,) = (form for form in HookMetaService.hook_meta_data() if form.connection_type == "voiceos")
print(form.model_dump_json())
"""

# A DAG is parsed in one process and run in another; what lies between is its serialized form.
ROUND_TRIP = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization

def outline(dag):
    tasks = dag.task_dict.values()
    return {task.task_id: [task.task_type, sorted(task.downstream_task_ids), texts(task)] for task in tasks}

def texts(task):
    given = getattr(task, "partial_kwargs", None)  # of a mapped task
    values = {field: getattr(task, field) if given is None else given.get(field) for field in task.template_fields}
    # The command of @task.bash is a placeholder, which is not stored.
    placeholder = "DYNAMIC (set during execution)"
    return {field: value for field, value in values.items() if isinstance(value, str) and value != placeholder}

bag = DagBag(sys.argv[1])
before = {dag_id: outline(dag) for dag_id, dag in bag.dags.items()}
stored = [json.dumps(DagSerialization.to_dict(dag)) for dag in bag.dags.values()]
loaded = [DagSerialization.from_dict(json.loads(dag)) for dag in stored]
after = {dag.dag_id: outline(dag) for dag in loaded}
print(json.dumps({"errors": bag.import_errors, "before": before, "after": after}))
"""


@pytest.fixture(scope="module")
def form(installation: Any) -> dict[str, Any]:
    """Return the connection form as the web page receives it."""
    return json.loads(installation.python(CONNECTION_FORM).splitlines()[-1])


def test_provider_is_listed(installation: Any) -> None:
    """`airflow providers list` names the distribution and its version."""
    providers = installation.airflow_json("providers", "list")
    (ours,) = (row for row in providers if row["package_name"] == "airflow-provider-voiceos")
    assert ours["version"] == voiceos_provider.__version__


def test_hook_is_listed(installation: Any) -> None:
    """`airflow providers hooks` offers the connection type, and the hook behind it has been imported."""
    hooks = installation.airflow_json("providers", "hooks")
    (ours,) = (row for row in hooks if row["connection_type"] == "voiceos")
    assert ours["class"] == "voiceos_provider.hooks.voiceos.VoiceOSHook"
    assert ours["hook_name"] == "VoiceOS"
    assert ours["package_name"] == "airflow-provider-voiceos"


def test_the_command_is_on_the_path(installation: Any) -> None:
    """`voiceos` works with nothing but the wheel and its dependencies."""
    assert installation.voiceos("--version").strip().endswith(voiceos_provider.__version__)


def test_form_hides_and_renames_the_standard_fields(form: dict[str, Any]) -> None:
    """The form asks for a base URL and a token and shows no login or schema."""
    fields = form["standard_fields"]
    assert form["hook_name"] == "VoiceOS"
    hidden = {name for name, field in fields.items() if field and field["hidden"]}
    assert hidden == {"login", "url_schema"}
    assert fields["host"]["title"] == "Base URL"
    assert fields["host"]["placeholder"] == "https://api.voiceos.io"
    assert fields["password"]["title"] == "API token"


def test_form_offers_every_named_extra(form: dict[str, Any], info: dict[str, Any]) -> None:
    """Each extra arrives with its label, its help, its default and its limits."""
    (connection,) = info["connection-types"]
    described = connection["conn-fields"]
    assert form["extra_fields"].keys() == described.keys()
    for name, field in described.items():
        shown = form["extra_fields"][name]
        assert shown["value"] == field["schema"].get("default")
        assert shown["description"] == field["description"]
        assert shown["schema"].items() >= {"title": field["label"], "type": field["schema"]["type"]}.items()
        for limit in {"minimum", "maximum"} & field["schema"].keys():
            assert shown["schema"][limit] == field["schema"][limit]


def test_example_dags_show_up_as_a_bundle(migrated: Any, example_files: set[str]) -> None:
    """With examples on, as they are by default, our example DAGs are there and no command prints an error."""
    printed = migrated.airflow("dags", "reserialize", "--bundle-name", BUNDLE)
    printed += migrated.airflow("dags", "list")
    printed += migrated.airflow("dags", "list-import-errors")
    assert "error " not in printed.lower()
    assert "traceback" not in printed.lower()

    rows = [row for row in migrated.airflow_json("dags", "list") if row["bundle_name"] == BUNDLE]
    assert {row["fileloc"].rpartition("/")[2] for row in rows} == example_files


def test_example_dags_survive_serialization(installation: Any, example_files: set[str]) -> None:
    """Each example DAG reads the same after it was stored and loaded, as the scheduler does."""
    folder = installation.site_packages / "airflow_provider_voiceos/example_dags"
    dags = json.loads(installation.python(ROUND_TRIP, folder).splitlines()[-1])
    assert dags["errors"] == {}
    assert len(dags["before"]) >= len(example_files)
    assert dags["after"] == dags["before"]
