"""The pictures in docs/img: `make screenshots` runs a system with a bug, and takes them again."""

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from playwright.sync_api import Page, ViewportSize, expect

from deploy.local import REPOSITORY
from deploy.local.processes.programs import PROGRAMS, Health
from testkit.browser.chromium import chromium, context, log_in
from testkit.browser.shop import bug, console_url, password, shop
from testkit.eventually import eventually
from testkit.processes.stack import Stack
from testkit.programs.mended import INVENTORY_WORKER
from testkit.servers.databases import Databases
from testkit.servers.infrastructure import infrastructure
from testkit.servers.prometheus import Prometheus
from testkit.servers.workers import own_ports

IMAGES = REPOSITORY / "docs" / "img"

#: Seconds for which orders are placed before the pictures, to fill a part of the charts, and the
#: number of orders that fail.
_SECONDS, _FAILING = 150, 60

#: Seconds after which the broker's numbers and rates of messages are current.
_COUNTED = 15

#: Rate of the redrive in messages per second, which is slow enough for a picture of its progress.
_RATE = "4"

_DESKTOP, _PHONE = ViewportSize(width=1280, height=1020), ViewportSize(width=390, height=844)


@click.command()
@click.option("--state", type=Path, default=REPOSITORY / ".run-screenshots")
@click.option("--seconds", default=_SECONDS, show_default=True)
def main(state: Path, seconds: int) -> None:
    """Take the pictures of the documentation, in a few minutes."""
    IMAGES.mkdir(exist_ok=True)
    shutil.rmtree(state, ignore_errors=True)
    directory = state / "processes"
    directory.mkdir(parents=True, exist_ok=True)
    with (
        infrastructure(state / "servers") as servers,
        shop(servers, Databases.prepare(servers), directory) as stack,
        _running(stack, state / "prometheus"),
        chromium() as browser,
        context(browser, console_url(stack)) as operator,
    ):
        with _orders(stack):
            time.sleep(seconds)
        page = operator.new_page()
        page.set_viewport_size(_DESKTOP)
        log_in(page, "operator", password(stack))
        _fail(stack)
        with _orders(stack):
            # Wait until the broker has counted the orders that are processed again.
            time.sleep(_COUNTED)
            _take_all(page)


@contextmanager
def _running(stack: Stack, directory: Path) -> Iterator[None]:
    ports = own_ports()
    stack.metrics_ports |= {
        program.name: ports.of(program.metrics_variable)
        for program in PROGRAMS
        if program.health is Health.HEARTBEAT and program.metrics_variable
    }
    stack.stock(TEA=100_000)
    stack.trace()
    names = [p.name for p in PROGRAMS if p.health is not Health.METRICS]
    others = [n for n in names if n not in ("inventory-worker", "spans", "console")]
    stack.start("inventory-worker", module=INVENTORY_WORKER)
    stack.start(*others)
    with Prometheus.over(stack, directory) as prometheus:
        stack.extra["PROMETHEUS_URL"] = prometheus.url
        stack.start("console")
        yield


@contextmanager
def _orders(stack: Stack) -> Iterator[None]:
    """Place a few orders per second during the block; some of them are rejected."""
    ended = threading.Event()

    def place() -> None:
        number = 0
        while not ended.wait(0.08 + 0.12 * (number // 100 % 2)):
            stack.place(("NONE" if number % 9 == 0 else "TEA", 1), email="grace@example.com")
            number += 1

    thread = threading.Thread(target=place)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _fail(stack: Stack) -> None:
    bug(stack).touch()
    for _ in range(_FAILING):
        stack.place(("TEA", 1), email="ada@example.com")

    def parked() -> None:
        assert stack.vhost.depth("inventory.dlq") >= _FAILING

    eventually(parked, within=120)
    bug(stack).unlink()


def _take_all(page: Page) -> None:
    page.goto("/overview")
    expect(page.get_by_role("link", name="parked at inventory")).to_be_visible()
    _take(page, "overview")
    page.emulate_media(color_scheme="dark")
    _take(page, "overview-dark")
    page.emulate_media(color_scheme="light")
    page.set_viewport_size(_PHONE)
    _take(page, "overview-phone")
    page.set_viewport_size(_DESKTOP)
    page.goto("/parked/groups")
    page.get_by_role("link", name="Group KeyError").first.click()
    _take(page, "group")
    page.get_by_role("link", name="Plan a redrive…").click()
    page.get_by_role("button", name="Make the plan").click()
    page.get_by_label("Messages per second").fill(_RATE)
    page.get_by_role("button", name="Run the plan").click()
    expect(page.locator(".legend")).to_contain_text("handled", timeout=60_000)
    page.wait_for_timeout(6_000)
    _take(page, "redrive")
    page.goto("/orders")
    page.locator("tbody a").nth(8).click()
    _take(page, "order")


def _take(page: Page, name: str) -> None:
    page.mouse.move(0, 0)
    page.evaluate("document.activeElement?.blur()")
    page.wait_for_timeout(500)
    page.screenshot(path=IMAGES / f"{name}.png", animations="disabled")
    click.echo(f"docs/img/{name}.png {(IMAGES / f'{name}.png').stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
