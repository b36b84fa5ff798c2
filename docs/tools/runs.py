"""Pictures of an Airflow 3 in a browser: a manual trigger, the asset event of an export, and a failed task.

Requires Playwright, and Chromium on the PATH.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from tests.support.real_airflow import RealAirflow
from voiceos_provider.emulator import Emulator, World

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "docs" / "images"
DAG_ID = "voiceos_nightly_export"
DRAWN = 4_000
"""Milliseconds in which a page has drawn itself."""


def main() -> int:
    """Run the example DAG by hand, take the pictures, and return the exit code."""
    home = Path(tempfile.mkdtemp(prefix="voiceos-runs-"))
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    world = World(
        seed=11, conversations=900, start=midnight - timedelta(days=2), end=midnight + timedelta(days=1)
    )
    emulator = Emulator(world)
    try:
        with emulator.serve() as api, RealAirflow(home, {"host": api, "password": emulator.token}) as airflow:
            example = (ROOT / "example_dags" / f"{DAG_ID}.py").read_text()
            (airflow.dags / "nightly.py").write_text(example.replace("/tmp/voiceos", f"{home}/voiceos"))
            airflow.until(lambda: states(airflow) == ["success"])
            with sync_playwright() as driver:
                browser = driver.chromium.launch(
                    executable_path=shutil.which("chromium"), args=["--no-sandbox"]
                )
                page = browser.new_page(viewport={"width": 1200, "height": 820})
                trigger(page, airflow, day=(midnight - timedelta(days=2)).date().isoformat())
                airflow.until(lambda: states(airflow) == ["success"] * 2)
                asset(page, airflow)
                airflow.run("dags", "trigger", DAG_ID, "--run-id", "without-a-day")
                airflow.until(lambda: "failed" in states(airflow))
                failure(page, airflow)
                browser.close()
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return 0


def states(airflow: RealAirflow) -> list[Any]:
    """Return the states of all task instances, the oldest first."""
    return [state for (state,) in airflow.query("SELECT state FROM task_instance ORDER BY queued_dttm")]


def trigger(page: Page, airflow: RealAirflow, *, day: str) -> None:
    """Trigger the DAG from its page for a chosen day."""
    page.goto(f"{airflow.url}/dags/{DAG_ID}")
    page.get_by_role("button", name="Trigger").first.click()
    page.locator("input[type=date]").fill(day)
    page.locator("#element_path").evaluate("input => input.value = 'file:///tmp/voiceos'")  # in the picture
    page.wait_for_timeout(DRAWN)
    picture(page, "run-3.3-trigger", {"x": 150, "y": 60, "width": 900, "height": 760})
    page.get_by_role("dialog").get_by_role("button", name="Trigger").last.click()


def asset(page: Page, airflow: RealAirflow) -> None:
    """Show the newest event of the asset, with the receipt."""
    ((asset_id,),) = airflow.query("SELECT id FROM asset")
    page.goto(f"{airflow.url}/assets/{asset_id}")
    page.locator(".codicon-folding-collapsed").first.click(force=True)
    page.wait_for_timeout(DRAWN)
    picture(page, "run-3.3-asset-event", {"x": 855, "y": 255, "width": 345, "height": 565})


def failure(page: Page, airflow: RealAirflow) -> None:
    """Show the log of the task that failed, down to the message."""
    page.goto(f"{airflow.url}/dags/{DAG_ID}/runs/without-a-day/tasks/export_conversations")
    page.wait_for_timeout(DRAWN)
    picture(page, "run-3.3-error", {"x": 315, "y": 60, "width": 885, "height": 390})


def picture(page: Page, name: str, clip: Any) -> None:
    """Save a part of the page."""
    file = IMAGES / f"{name}.png"
    page.screenshot(path=file, clip=clip)
    print(f"{file.relative_to(ROOT)}: {file.stat().st_size / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    sys.exit(main())
