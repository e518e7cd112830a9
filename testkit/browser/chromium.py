"""Chromium, as the operating system provides it, and an operator who has logged in."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

#: The programs' names in Debian and in Ubuntu.
_NAMES = ("chromium", "chromium-browser")

#: Milliseconds to wait for an element: longer than the delay of the broker's figures.
_PATIENCE = 20_000


def executable() -> str | None:
    """Return the path of Chromium, or None if it is not installed."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run one Chromium without a window; `deploy/local/install.sh browser` installs it."""
    expect.set_options(timeout=_PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable(),
            # Chromium's sandbox does not run as root or in a container. The browser loads only the
            # console.
            chromium_sandbox=False,
            args=["--disable-dev-shm-usage", "--font-render-hinting=none"],
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def context(browser: Browser, url: str) -> Iterator[BrowserContext]:
    """Yield the browser of an operator who has not logged in to the console at this address."""
    own = browser.new_context(base_url=url, viewport={"width": 1280, "height": 900})
    own.set_default_timeout(_PATIENCE)
    try:
        yield own
    finally:
        own.close()


def log_in(page: Page, name: str, password: str) -> None:
    """Log in with the form of the console."""
    page.goto("/login")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()
