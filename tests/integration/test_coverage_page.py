"""The coverage page as Airflow serves it: static files, strict headers, no external content."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import entry_points
from typing import Any

import pytest
from airflow.plugins_manager import AirflowPlugin

from voiceos_provider.plugins import coverage
from voiceos_provider.plugins.coverage import VoiceOSCoveragePlugin, serve_page

HAS_VIEWS = hasattr(AirflowPlugin, "external_views")
FILES = ["index.html", "coverage.js", "page.js", "page.css"]


@pytest.fixture(params=["", "/airflow"])
def get(request: pytest.FixtureRequest) -> Any:
    """Return a function that requests a path from the page as Airflow mounts it, also below a path of base_url."""
    fastapi = pytest.importorskip("fastapi", reason="Airflow 2 has none")
    from starlette.testclient import TestClient

    root = request.param
    app = fastapi.FastAPI(root_path=root)
    app.mount(coverage.URL_PREFIX, serve_page)
    client = TestClient(app, base_url="http://airflow")

    def respond(path: str, method: str = "GET") -> Any:
        return client.request(method, f"{root}{coverage.URL_PREFIX}/{path}")

    return respond


@pytest.mark.parametrize("name", FILES)
def test_each_file_has_strict_headers(get: Any, name: str) -> None:
    """The policy forbids inline scripts and styles, other hosts, and frames outside Airflow."""
    response = get(name)
    assert response.status_code == 200
    assert response.content == (coverage._FOLDER / name).read_bytes()
    policy = dict(part.split(" ", 1) for part in response.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
    for source in ("script-src", "style-src", "connect-src", "frame-ancestors"):
        assert policy[source] == "'self'"
    assert response.headers["x-content-type-options"] == "nosniff"
    kinds = {"html": "text/html", "js": "text/javascript", "css": "text/css"}
    assert response.headers["content-type"].startswith(kinds[name.rpartition(".")[2]])


def test_folder_serves_the_page(get: Any) -> None:
    """HEAD returns its headers without a body."""
    assert get("").content == get("index.html").content
    head = get("", "HEAD")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(get("").content))


@pytest.mark.parametrize(
    "path", ["../coverage.py", "..%2fcoverage.py", "coverage.py", "x/index.html", "%2e%2e/__init__.py", "api"]
)
def test_no_other_file_is_served(get: Any, path: str) -> None:
    """The package's other files are unreachable, however the path is spelled."""
    assert get(path).status_code == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_requests_that_write_are_rejected(get: Any, method: str) -> None:
    """The page has no routes except its files."""
    assert get("index.html", method).status_code == 405


@pytest.mark.parametrize("name", FILES)
def test_files_have_no_external_host_and_no_inline_code(name: str) -> None:
    """The script reads no cookie and sets no HTML."""
    text = (coverage._FOLDER / name).read_text().replace("http://www.w3.org/2000/svg", "")
    assert not re.findall(r"https?://|cookie|innerHTML|outerHTML|insertAdjacentHTML|\beval\b", text)
    assert not re.findall(r"<style|\sstyle=|\son\w+=\"|<script(?![^>]*\ssrc=)", text)


def test_airflow_finds_the_plugin_by_its_entry_point() -> None:
    """Airflow without views gets an empty plugin."""
    (found,) = (each for each in entry_points(group="airflow.plugins") if each.name == "voiceos_coverage")
    assert found.load() is VoiceOSCoveragePlugin
    VoiceOSCoveragePlugin.validate()
    added = [vars(VoiceOSCoveragePlugin).get(name) for name in ("fastapi_apps", "external_views")]
    if HAS_VIEWS:
        views = VoiceOSCoveragePlugin.external_views
        assert [view["destination"] for view in views] == ["nav", "dag", "task_instance"]
        assert len({view["url_route"] for view in views}) == 3
        assert not any(view["href"].startswith(("/", "http")) for view in views)
    else:
        assert added == [None, None]


def test_plugin_is_empty_before_airflow_3_1() -> None:
    """Its base class then has no views."""
    code = """
from airflow import plugins_manager
class AirflowPlugin:
    name = None
AirflowPlugin.__module__ = plugins_manager.__name__
plugins_manager.AirflowPlugin = AirflowPlugin
from voiceos_provider.plugins.coverage import VoiceOSCoveragePlugin
print("found", sorted(name for name in vars(VoiceOSCoveragePlugin) if not name.startswith("__")))
"""
    printed = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert printed.splitlines()[-1] == "found ['name']"


def test_plugin_imports_only_its_base_class() -> None:
    """Every Airflow command loads it."""
    code = """
import sys
import airflow.plugins_manager, voiceos_provider
before = set(sys.modules)
import voiceos_provider.plugins.coverage
print("new", sorted(set(sys.modules) - before))
"""
    printed = subprocess.check_output([sys.executable, "-c", code], text=True)
    ours = ["voiceos_provider.plugins", "voiceos_provider.plugins.coverage"]
    assert printed.splitlines()[-1] == f"new {ours}"
