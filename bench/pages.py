"""Seconds that MLflow's pages take in a real browser.

Run by `bench/load.py` in an environment of its own, prints JSON.

    python bench/pages.py CHROMIUM ADDRESS [PICTURE.png]

The address is an experiment's. Timed from the click or the load to what a user waits for: the
table's rows, its next page of runs, the charts' lines.
"""

import json
import sys
import time

from playwright.sync_api import Page, sync_playwright

PATIENCE = 180_000  # milliseconds
# the saved view "Trials, best first"
TRIALS = (
    "searchFilter=metrics.%60epochs%60%20%3E%3D%200&orderByKey=metrics.%60best%60&orderByAsc=false"
)
ROWS = "document.querySelectorAll('.ag-center-cols-container .ag-row').length >= 20"
LINES = (
    "Math.max(0, ...[...document.querySelectorAll('.js-plotly-plot')].map(plot => "
    "(plot.data || []).length)) >= 10"
)


def timed(page: Page, address: str, wanted: str) -> float:
    """Seconds from a fresh load of `address` until the condition `wanted` holds."""
    page.goto("about:blank")
    began = time.monotonic()
    page.goto(address)
    page.wait_for_function(wanted)
    return round(time.monotonic() - began, 2)


def main() -> None:
    """Open the run table twice, load its next page, and open the charts of the same runs."""
    chromium, address, *picture = sys.argv[1:]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        page.set_default_timeout(PATIENCE)
        table, chart = (
            f"{address}/runs?{TRIALS}&compareRunsMode={mode}" for mode in ("TABLE", "CHART")
        )
        found = {
            "first_table_seconds": timed(page, table, ROWS),
            "table_seconds": timed(page, table, ROWS),
        }
        button = page.get_by_role("button", name="Load more")
        if button.count():
            before = page.locator("[aria-rowcount]").first.get_attribute("aria-rowcount")
            began = time.monotonic()
            button.click()
            page.wait_for_function(
                "before => "
                "document.querySelector('[aria-rowcount]').getAttribute('aria-rowcount') !== "
                "before",
                arg=before,
            )
            found["next_hundred_seconds"] = round(time.monotonic() - began, 2)
        found["chart_seconds"] = timed(page, chart, LINES)
        if picture:
            page.screenshot(path=picture[0])
        browser.close()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
