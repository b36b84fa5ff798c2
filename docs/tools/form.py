"""Connection form in a browser: its fields, its test with a valid and an invalid token, and pictures of both.

Starts the Airflow of a virtual environment and the emulator, and fills in the form as a person would. Requires
Chromium on the PATH.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Page, sync_playwright

from voiceos_provider.emulator import Emulator, World

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "docs" / "images"
TIMEOUT = 180.0

WHOLE: Any = {"width": 1000, "height": 1700}
"""Tall enough for the longest form with its buttons."""

GOOD, BAD = "accepts the token", "refuses the token"


@dataclass(frozen=True)
class Browser:
    """A page of a running Airflow.

    :param url: where that Airflow is
    :param picture: takes a picture of a part of the page, under a name
    """

    page: Page
    url: str
    picture: Callable[[str, Any], None]


def main() -> int:
    """Check the form: its fields, a valid token and an invalid one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "venv", type=Path, help="an environment with Airflow and the wheel, as `make matrix` makes them"
    )
    venv = parser.parse_args().venv.resolve()
    found = subprocess.check_output(
        [venv / "bin/airflow", "version"], text=True, env=environ(venv, Path("/tmp"), 0)
    )
    version = found.split()[-1]
    is_old = version.startswith("2.")
    IMAGES.mkdir(parents=True, exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix="voiceos-form-"))
    world = World(seed=7, conversations=50)
    emulator = Emulator(world)
    try:
        with (
            emulator.serve() as api,
            airflow(venv, home, is_old=is_old) as url,
            browser(version, url) as seen,
        ):
            (in_airflow_2 if is_old else in_airflow_3)(seen, api, emulator.token)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return 0


def environ(venv: Path, home: Path, port: int) -> dict[str, str]:
    """Return the settings of a separate Airflow on free ports, with connection tests enabled."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "PYTHONPATH"))
    }
    return kept | {
        "PATH": f"{venv / 'bin'}:{os.environ['PATH']}",
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__WEBSERVER__WORKERS": "1",
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
        "NO_COLOR": "1",
    }


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def airflow(venv: Path, home: Path, *, is_old: bool) -> Iterator[str]:
    """Run the components that a connection test requires; in Airflow 3 a worker runs it."""
    port = free_port()
    settings, url = environ(venv, home, port), f"http://127.0.0.1:{port}"
    (home / "dags").mkdir(parents=True)
    if is_old:
        subprocess.run(
            ["airflow", "db", "migrate"],
            env=settings,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        (home / "webserver_config.py").write_text('WTF_CSRF_ENABLED = True\nAUTH_ROLE_PUBLIC = "Admin"\n')
    command = ["airflow", "webserver", "--port", str(port)] if is_old else ["airflow", "standalone"]
    log = (home / "airflow.log").open("w")
    server = subprocess.Popen(command, env=settings, cwd=home, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(f"{url}/health" if is_old else f"{url}/api/v2/monitor/health", server, is_old=is_old)
        yield url
    finally:
        end(server)
        log.close()


def end(server: subprocess.Popen[bytes]) -> None:
    """Stop the server and all of its child processes."""
    for kind, seconds in ((signal.SIGTERM, 20), (signal.SIGKILL, 5)):
        for _ in range(seconds):
            server.poll()
            try:
                os.killpg(server.pid, kind)
            except ProcessLookupError:
                return
            time.sleep(1)


def wait_for(url: str, server: subprocess.Popen[bytes], *, is_old: bool) -> None:
    """Wait until Airflow reports that it is healthy."""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline and server.poll() is None:
        try:
            health = httpx.get(url).raise_for_status().json()
        except (httpx.HTTPError, ValueError):
            time.sleep(1)
            continue
        if is_old or health["scheduler"]["status"] == "healthy":
            return
        time.sleep(1)
    raise SystemExit(f"Airflow did not start; {url} does not answer.")


@contextmanager
def browser(version: str, url: str) -> Iterator[Browser]:
    """Open a browser page at Airflow."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("No Chromium on the PATH; install one, as by `apt-get install chromium`.")

    def picture(name: str, part: Any) -> None:
        file = IMAGES / f"form-{'.'.join(version.split('.')[:2])}-{name}.png"
        part.screenshot(path=file)
        print(f"{file.relative_to(ROOT)}: {file.stat().st_size / 1000:.0f} kB", flush=True)

    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = opened.new_page(viewport=WHOLE)
        page.set_default_timeout(TIMEOUT * 1000)
        try:
            yield Browser(page, url, picture)
        except Exception:
            page.screenshot(path="/tmp/voiceos-form-failed.png")
            raise
        finally:
            opened.close()


def in_airflow_3(seen: Browser, api: str, token: str) -> None:
    """Test the form of Airflow 3: a dialog, with the test button in the list."""
    page = seen.page
    page.goto(f"{seen.url}/connections")
    page.get_by_role("button", name="Add Connection").click()
    form = page.get_by_role("dialog")
    form.get_by_role("textbox").first.fill("voiceos_default")
    form.get_by_role("combobox").first.click()
    page.get_by_role("option", name="VoiceOS", exact=True).click()
    host, _, port = api.rpartition(":")
    form.get_by_placeholder("https://api.voiceos.io").fill(host)
    form.get_by_placeholder("443").fill(port)  # the test of 3.3.2 refuses to run without
    secret = form.locator("input[type=password]").first
    secret.fill(token)
    require(secret.get_attribute("type") == "password", "the token is hidden")
    require(form.get_by_text("API token").is_visible(), "the token has a label")
    page.wait_for_timeout(500)
    seen.picture("fields", form)
    form.get_by_role("button", name="Extra Fields", exact=True).click()
    form.get_by_text("Seconds to go on trying one request").wait_for()
    page.wait_for_timeout(500)
    seen.picture("extras", form)
    form.get_by_role("button", name="Save").click()
    form.wait_for(state="hidden")
    test_in_list(seen, "good", GOOD)
    page.get_by_role("button", name="Edit Connection").click()
    form.locator("input[type=password]").first.fill("a-wrong-token")
    form.get_by_role("button", name="Save").click()
    form.wait_for(state="hidden")
    test_in_list(seen, "bad", BAD)


def test_in_list(seen: Browser, name: str, said: str) -> None:
    """Press the test button, and wait for the result."""
    page = seen.page
    page.get_by_role("button", name="Test Connection").click()
    page.get_by_text(said).first.wait_for()
    page.wait_for_timeout(500)
    page.set_viewport_size({"width": 1000, "height": 500})
    seen.picture(name, page)
    page.set_viewport_size(WHOLE)


def in_airflow_2(seen: Browser, api: str, token: str) -> None:
    """Test the form of Airflow 2: a page with a test button."""
    page = seen.page
    page.goto(f"{seen.url}/connection/add")
    # The bar covers what is scrolled below it.
    page.add_style_tag(content="body { padding-top: 0 !important } .navbar { position: static !important }")
    page.locator("#conn_id").fill("voiceos_default")
    page.evaluate("jQuery('#conn_type').val('voiceos').trigger('change')")  # the list is drawn by a plugin
    page.get_by_text("Seconds to go on trying one request").wait_for()
    page.locator("#host").fill(api)
    secret = page.locator("#password")
    secret.fill(token)
    for hidden in (secret, page.locator("#extra__voiceos__phone_hash_key")):
        require(hidden.get_attribute("type") == "password", "secrets are hidden")
    require(page.locator("#extra__voiceos__page_size").get_attribute("placeholder") == "100", "defaults show")
    seen.picture("fields", page.locator("#model_form"))
    for sent, name, said in ((token, "good", GOOD), ("a-wrong-token", "bad", BAD)):
        secret.fill(sent)
        page.get_by_role("button", name="Test").click()
        page.get_by_text(said).first.wait_for()
        page.evaluate("window.scrollTo(0, 0)")
        page.set_viewport_size({"width": 1000, "height": 560})
        seen.picture(name, page)


def require(holds: bool, what: str) -> None:  # noqa: FBT001
    """Exit with a message if a condition does not hold."""
    if not holds:
        raise SystemExit(f"Failed: {what}.")


if __name__ == "__main__":
    sys.exit(main())
