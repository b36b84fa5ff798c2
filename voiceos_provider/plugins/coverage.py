"""Coverage page in Airflow 3.1 and later: which intervals are exported, and what is missing.

Every Airflow process imports this module, so it imports nothing but the base class of plugins. Only static files are
served: routes of plugins have no authentication. The script of the page reads Airflow's REST API as the logged-in user.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.plugins_manager import AirflowPlugin

_FOLDER = Path(__file__).with_name("coverage_page")

_CONTENT_TYPES = {
    "index.html": "text/html; charset=utf-8",
    "coverage.js": "text/javascript; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
}
"""The files of the page; nothing else is served."""

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


async def serve_page(scope: Any, receive: Any, send: Any) -> None:
    """Respond to GET and HEAD with a file of the page; an ASGI application."""
    if scope["type"] != "http":
        return
    # Whether the path still begins with the prefix of the mount depends on the version of Starlette.
    folder, _, name = scope["path"].rpartition("/")
    content_type = _CONTENT_TYPES.get(name or "index.html")
    status, body = 404, b"Not found"
    if scope["method"] not in ("GET", "HEAD"):
        status, body = 405, b"Method not allowed"
    elif content_type is not None and (not folder or folder.endswith(URL_PREFIX)):
        status, body = 200, (_FOLDER / (name or "index.html")).read_bytes()
    headers = _HEADERS | {
        "Content-Type": content_type if status == 200 and content_type else "text/plain",
        "Content-Length": str(len(body)),
    }
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(key.lower().encode(), value.encode()) for key, value in headers.items()],
        }
    )
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


URL_PREFIX = "/voiceos-coverage"

# Relative, so that the page also opens below a path of [api] base_url: Airflow's own page has a <base>.
_HREF = f"{URL_PREFIX[1:]}/"


def _view(destination: str, query: str = "") -> dict[str, Any]:
    return {
        "name": "VoiceOS coverage",
        "href": f"{_HREF}{query}",
        "destination": destination,
        "url_route": f"voiceos-coverage{'' if destination == 'nav' else f'-{destination}'.replace('_', '-')}",
    }


_APPS = [{"app": serve_page, "url_prefix": URL_PREFIX, "name": "VoiceOS coverage"}]
_VIEWS = [
    _view("nav"),
    _view("dag", "?dag_id={DAG_ID}"),
    _view("task_instance", "?dag_id={DAG_ID}&task_id={TASK_ID}"),
]


class VoiceOSCoveragePlugin(AirflowPlugin):
    """A page in the navigation, and a tab of DAGs and of task instances.

    It is empty where Airflow has no views of plugins, before 3.1.
    """

    name = "voiceos_coverage"
    if hasattr(AirflowPlugin, "external_views"):
        fastapi_apps = _APPS
        external_views = _VIEWS
