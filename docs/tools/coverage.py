"""Coverage page in a browser: as administrator and as viewer, light and dark, and pictures of it.

Exports a history with a gap, an overlap, an unusual day and schema drift from the emulator, with the Airflow of a
virtual environment. Then opens the page as a person would. Requires Chromium on the PATH.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Browser, BrowserContext, FrameLocator, Page, sync_playwright

from docs.tools.form import IMAGES, ROOT, TIMEOUT, end, environ, free_port, require
from voiceos_provider.emulator import Emulator, World

DAYS = 75
GAP, OVERLAP, DRIFT, QUIET = 20, 33, 16, 8
"""Days ago."""

VIEW: Any = {"width": 1360, "height": 900}

DAG_FILE = """
from datetime import UTC, datetime
from airflow.providers.common.compat.sdk import DAG
from voiceos_provider.transfers.voiceos_to_object_storage import VoiceOSToObjectStorageOperator

with DAG("voiceos_history", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)):
    for name, windows in {windows!r}.items():
        VoiceOSToObjectStorageOperator.partial(task_id=f"export_{{name}}", path={path!r} + name).expand_kwargs(windows)
"""


def main() -> int:
    """Check the page: what it shows, as which user, and where a click leads."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("venv", type=Path, help="an environment with Airflow 3.1 or later and the package")
    parser.add_argument("--base-path", default="", help="path of [api] base_url, such as /airflow")
    arguments = parser.parse_args()
    home = Path(tempfile.gettempdir(), "coverage-exports")  # in the pictures
    home.mkdir()
    try:
        with airflow(arguments.venv.absolute(), home, arguments.base_path) as url:
            in_browser(url, found_version(url))
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return 0


def midnight() -> datetime:
    """Return the start of today in UTC."""
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def history() -> World:
    """Return a world with busy weekdays and calm weekends, one quiet day, and a new status on another."""
    created = []
    for ago in range(DAYS, 0, -1):
        day = midnight() - timedelta(days=ago)
        count = (60 if day.weekday() < 5 else 25) + (ago * 7) % 11
        count = 9 if ago == QUIET else count
        created += [day + timedelta(days=1) * ((number + 0.5) / count) for number in range(count)]
    world = World(seed=16, created=created)
    drifted = midnight() - timedelta(days=DRIFT)
    for id_ in world.ids(created_after=drifted, created_before=drifted + timedelta(hours=2)):
        world.set_status(id_, "transferred")
    return world


def windows() -> dict[str, list[dict[str, str]]]:
    """Return the intervals to export: a history with a gap and an overlap, and a complete one."""

    def window(ago: float, days: float = 1) -> dict[str, str]:
        start = midnight() - timedelta(days=ago)
        return {
            "interval_start": start.isoformat(),
            "interval_end": (start + timedelta(days=days)).isoformat(),
        }

    calls = [window(ago) for ago in range(DAYS, 0, -1) if ago != GAP] + [window(OVERLAP + 0.5, 0.75)]
    return {"calls": calls, "sales": [window(ago) for ago in range(7, 0, -1)]}


@contextmanager
def airflow(venv: Path, home: Path, base_path: str) -> Iterator[str]:
    """Export the history, and run an API server with an administrator and a viewer."""
    port = free_port()
    url = f"http://127.0.0.1:{port}{base_path}"
    passwords = home / "passwords.json"
    passwords.write_text(json.dumps({"admin": "admin", "viewer": "viewer"}))
    (home / "dags").mkdir()
    (home / "dags" / "history.py").write_text(DAG_FILE.format(windows=windows(), path=f"file://{home}/"))
    emulator = Emulator(history())
    with emulator.serve() as api, (home / "airflow.log").open("w") as log:
        settings = environ(venv, home, port) | {
            "AIRFLOW__API__BASE_URL": f"{url}/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin,viewer:viewer",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
            "AIRFLOW_CONN_VOICEOS_DEFAULT": json.dumps(
                {"conn_type": "voiceos", "host": api, "password": emulator.token}
            ),
        }
        for command in (["db", "migrate"], ["dags", "reserialize"], ["dags", "test", "voiceos_history"]):
            done = subprocess.run(
                ["airflow", *command], env=settings, cwd=home, stdout=log, stderr=log, check=False
            )
            if done.returncode:
                raise SystemExit(f"airflow {' '.join(command)} failed:\n{log_end(home)}")
        server = subprocess.Popen(
            ["airflow", "api-server", "--port", str(port)],
            env=settings,
            cwd=home,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + TIMEOUT
            while not responds(f"{url}/api/v2/monitor/health"):
                if time.monotonic() > deadline or server.poll() is not None:
                    raise SystemExit(f"Airflow did not start:\n{log_end(home)}")
                time.sleep(1)
            yield url
        finally:
            end(server)


def log_end(home: Path) -> str:
    """Return the last lines of Airflow's log."""
    return "\n".join((home / "airflow.log").read_text().splitlines()[-30:])


def responds(url: str) -> bool:
    """Return whether a server responds."""
    try:
        return httpx.get(url).is_success
    except httpx.HTTPError:
        return False


def found_version(url: str) -> str:
    """Return the minor version of the Airflow, such as `3.3`."""
    return ".".join(httpx.get(f"{url}/api/v2/version").json()["version"].split(".")[:2])


def in_browser(url: str, version: str) -> None:
    """Open the page as each user and in each colour mode."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("No Chromium on the PATH; install one, as by `apt-get install chromium`.")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        try:
            for user, theme in (("admin", "light"), ("viewer", "dark")):
                with logged_in(browser, url, user, theme) as (context, page):
                    shows_the_history(page, url, version, theme)
                    if user == "admin":
                        leads_to_the_task_instance(page, url)
                        has_tabs(page, url)
                    else:
                        has_the_rights_of_the_viewer(page, url)
                        ends_with_the_session(context, page, url)
        finally:
            browser.close()
    print(f"Airflow {version}: the page works as administrator and as viewer.")


@contextmanager
def logged_in(browser: Browser, url: str, user: str, theme: str) -> Iterator[tuple[BrowserContext, Page]]:
    """Log in through the form; fail on requests to other hosts and on what the policy of the page refuses."""
    context = browser.new_context(viewport=VIEW, reduced_motion="reduce")
    context.add_init_script(f"localStorage.setItem('theme', '{theme}')")
    page = context.new_page()
    page.set_default_timeout(60_000)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on(
        "request",
        lambda sent: (
            complaints.append(sent.url)
            if not sent.url.startswith((url.split("/", 3)[0], "data:", "blob:"))
            and "127.0.0.1" not in sent.url
            else None
        ),
    )
    try:
        page.goto(f"{url}/auth/login")
        page.locator("input[name=username]").fill(user)
        page.locator("input[name=password]").fill(user)
        page.locator("button[type=submit]").click()
        page.wait_for_url(lambda found: "/auth/" not in found)
        yield context, page
        require(
            not [each for each in complaints if "Content Security Policy" in each or "voiceos" in each],
            f"the console has no errors of the page, but {complaints}",
        )
    except Exception:
        page.screenshot(path="/tmp/voiceos-coverage-failed.png")
        raise
    finally:
        context.close()


def opened(page: Page, url: str) -> FrameLocator:
    """Open the page from the navigation's address, and return its frame."""
    page.goto(f"{url}/plugin/voiceos-coverage")
    frame = page.frame_locator("iframe[title='VoiceOS coverage']")
    frame.locator("#targets tbody tr").first.wait_for()
    return frame


def shows_the_history(page: Page, url: str, version: str, theme: str) -> None:
    """Find each planted finding, compute the same in the browser, and take a picture."""
    frame = opened(page, url)
    rows = frame.locator("#targets tbody tr")
    require(rows.count() == 2, "there are two targets")
    tags = rows.nth(0).locator(".tag").all_inner_texts()
    require(
        tags == ["fresh", "1 gap", "1 overlap", "1 unusual day", "1 schema change"],
        f"each finding is there, not {tags}",
    )
    require(
        rows.nth(1).locator(".tag").all_inner_texts() == ["fresh", "none"], "the other target is complete"
    )
    findings = frame.locator("#findings").inner_text()
    for ago in (GAP, QUIET, DRIFT):
        require(f"{midnight() - timedelta(days=ago):%Y-%m-%d}" in findings, f"day -{ago} is named")
    require("status = transferred" in findings, "the new value is named")
    require(frame.locator("html").get_attribute("data-theme") == theme, "the colours are those of Airflow")
    require(frame.locator("#calendar .gap").count() == 1, "the gap is in the calendar")
    require(frame.locator("#calendar .overlap").count() >= 1, "the overlap is in the calendar")
    require(frame.locator("#calendar .unusual").count() == 1, "the unusual day is in the calendar")
    frame.locator("#findings button").first.click()
    require("not exported, gap" in frame.locator("#day").inner_text(), "a finding leads to its day")
    cells = frame.locator("#calendar .cell")
    require(cells.count() == DAYS, "each day has a cell")
    frame.locator(":focus").press("ArrowDown")
    require("conversations" in (frame.locator(":focus").get_attribute("aria-label") or ""), "arrow keys work")
    unlabelled = frame.locator("a:not([aria-label]):empty, button:not([aria-label]):empty").count()
    require(unlabelled == 0, "each control has a name")
    page.mouse.move(5, 895)
    file = IMAGES / f"coverage-{version}-{theme}.png"
    page.screenshot(path=file)
    print(f"{file.relative_to(ROOT)}: {file.stat().st_size / 1000:.0f} kB", flush=True)


def leads_to_the_task_instance(page: Page, url: str) -> None:
    """Click a day."""
    frame = opened(page, url)
    frame.locator("#calendar .cell").last.click()
    page.wait_for_url(lambda found: "/dags/voiceos_history/runs/" in found)
    require("/tasks/export_calls/mapped/" in page.url, f"a click opens the task instance, not {page.url}")


def has_tabs(page: Page, url: str) -> None:
    """Open the tabs of the task instance and of the DAG."""
    for address, shown in (
        (page.url.split("?")[0].rstrip("/"), "DAG voiceos_history, task export_calls"),
        (f"{url}/dags/voiceos_history", "DAG voiceos_history"),
    ):
        page.goto(address)
        page.get_by_role("link", name="VoiceOS coverage").last.click()
        frame = page.frame_locator("iframe[title='VoiceOS coverage']")
        frame.locator("#targets tbody tr").first.wait_for()
        require(frame.locator("#scope").inner_text() == shown, f"the tab is limited to {shown}")


def has_the_rights_of_the_viewer(page: Page, url: str) -> None:
    """Try to change something with the session of the page."""
    status = page.evaluate(
        """url => fetch(url, {method: "PATCH", headers: {"Content-Type": "application/json"},
        body: '{"is_paused": true}'}).then(response => response.status)""",
        f"{url}/api/v2/dags/voiceos_history",
    )
    require(status == 403, "a viewer may not pause a DAG")


def ends_with_the_session(context: BrowserContext, page: Page, url: str) -> None:
    """Reload the data without a session."""
    frame = opened(page, url)
    context.clear_cookies()
    frame.get_by_role("button", name="Reload").click()
    frame.get_by_text("Your session has ended. Log in again.").wait_for()
    frame.get_by_role("button", name="Log in again").click()
    page.wait_for_url(lambda found: "/auth/login" in found)


if __name__ == "__main__":
    sys.exit(main())
