"""The jobs of an operator, in a browser: each page is used as a person uses it."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, ViewportSize, expect

from testkit.browser import accessibility
from testkit.browser.chromium import chromium, context, executable, log_in
from testkit.browser.shop import bug as bug_of
from testkit.browser.shop import console_url, password, place_parked, shop
from testkit.processes.stack import Stack
from testkit.programs.mended import INVENTORY_WORKER
from testkit.servers.databases import Databases
from testkit.servers.infrastructure import Infrastructure

pytestmark = pytest.mark.skipif(executable() is None, reason="Chromium is not installed")

PARKED_AT = re.compile(r"\d+ parked at inventory")


@pytest.fixture(scope="module")
def stack(
    servers: Infrastructure, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """A system with a console, whose inventory fails while there is a bug."""
    with shop(servers, databases, tmp_path_factory.mktemp("browser")) as stack:
        stack.stock(TEA=1000)
        stack.start("inventory-worker", module=INVENTORY_WORKER)
        stack.start("api", "order-worker", "order-relay", "inventory-relay", "beat", "console")
        yield stack


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium."""
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def operator(browser: Browser, stack: Stack) -> Iterator[BrowserContext]:
    """The browser of an operator who has logged in."""
    with context(browser, console_url(stack)) as own:
        page = own.new_page()
        log_in(page, "operator", password(stack))
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        page.close()
        yield own


@pytest.fixture
def page(operator: BrowserContext) -> Iterator[Page]:
    """A page of the operator, on which no script and no policy may fail."""
    problems = list[str]()
    own = operator.new_page()

    def note(message: ConsoleMessage) -> None:
        if message.type == "error":
            problems.append(message.text)

    own.on("console", note)
    own.on("pageerror", lambda error: problems.append(str(error)))
    yield own
    own.close()
    assert problems == []


@pytest.fixture
def bug(stack: Stack) -> Iterator[Path]:
    """A bug in the inventory's handler, until the test removes it."""
    file = bug_of(stack)
    file.touch()
    yield file
    file.unlink(missing_ok=True)


# --- Jobs ---------------------------------------------------------------------------------------


def test_a_wrong_password_is_refused_in_the_form(browser: Browser, stack: Stack) -> None:
    with context(browser, console_url(stack)) as stranger:
        page = stranger.new_page()
        log_in(page, "operator", "a wrong password")

        expect(page.get_by_role("alert")).to_have_text("The name or the password is wrong.")


def test_a_parked_message_appears_on_the_open_overview(page: Page, stack: Stack, bug: Path) -> None:
    # Given an open overview that is live
    page.goto("/overview")
    expect(page.locator("#refreshed")).to_contain_text("Live")
    before = page.locator("[data-part=headline]").inner_text()

    # When a message is parked
    place_parked(stack)

    # Then the page shows it without being loaded again, and is not healthy
    expect(page.locator("[data-part=headline]")).not_to_have_text(before)
    expect(page.get_by_role("link", name=PARKED_AT)).to_be_visible()
    expect(page.get_by_role("heading", level=1)).not_to_contain_text("Healthy")
    expect(page.get_by_role("link", name=re.compile(r"^Parked: \d")).first).to_be_visible()


def test_a_group_is_redriven_by_a_plan_that_stops_until_the_bug_is_fixed(
    page: Page, stack: Stack, bug: Path
) -> None:
    # Given a parked message
    order_id = place_parked(stack)

    # When an operator opens its group, plans the redrive and runs the plan
    page.goto("/parked/groups")
    page.get_by_role("link", name="Group KeyError").first.click()
    page.get_by_role("link", name="Plan a redrive…").click()
    page.get_by_role("button", name="Make the plan").click()
    page.get_by_role("button", name="Run the plan").click()

    # Then the run stops after one message, and says why
    expect(page.get_by_text("The run stopped.")).to_be_visible()
    expect(page.get_by_text("1 of 1 failed again")).to_be_visible()

    # When the bug is fixed, and the plan is run again
    bug.unlink()
    page.get_by_role("button", name="Run again").click()

    # Then the plan is done, and the order is confirmed
    expect(page.locator("h1 .badge")).to_have_text("done")
    assert stack.decided(order_id) == ("CONFIRMED", None)


def test_a_service_is_paused_with_a_reason_and_resumed(page: Page) -> None:
    page.goto("/overview")
    page.get_by_role("link", name="fraud", exact=True).click()
    page.get_by_role("link", name="Pause fraud…").click()
    page.get_by_label("Reason").fill("judges wrongly")
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("fraud is paused")).to_be_visible()

    page.goto("/services/fraud")
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_text("fraud: resumed")).to_be_visible()


def test_an_order_is_found_and_its_address_revealed(page: Page, stack: Stack) -> None:
    # Given an order of a customer
    order_id = stack.place(("TEA", 1), email="grace@example.com")
    stack.decided(order_id)

    # When an operator searches the address
    page.goto("/orders")
    page.get_by_label("Order id or email address").fill("grace@example.com")
    page.get_by_role("button", name="Find").click()
    page.get_by_role("link", name=order_id).click()

    # Then the address is masked until it is requested
    expect(page.get_by_text("grace@example.com", exact=True)).to_have_count(0)
    page.get_by_role("button", name="Show address").click()
    expect(page.get_by_text("grace@example.com", exact=True)).to_be_visible()


# --- Accessibility ------------------------------------------------------------------------------

PAGES = (
    *("/overview", "/services/inventory", "/exchange", "/orders", "/parked", "/parked/groups"),
    *(
        "/services/fraud/pause",
        "/parked/inventory/plan",
        "/stock",
        "/analytics",
        "/people",
        "/audit",
    ),
)

WIDE, PHONE = ViewportSize(width=1280, height=900), ViewportSize(width=390, height=844)


def test_every_page_has_contrast_names_and_fits_a_phone(page: Page) -> None:
    problems: dict[str, object] = {}
    for path in PAGES:
        page.goto(path)
        problems[f"{path}: names"] = accessibility.nameless_controls(page)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            problems[f"{path}: {scheme}"] = accessibility.faint_texts(page)
        page.set_viewport_size(PHONE)
        problems[f"{path}: pixels beyond a phone"] = accessibility.overflow(page)
        page.set_viewport_size(WIDE)

    assert {name: found for name, found in problems.items() if found} == {}


@pytest.mark.parametrize("path", ["/overview", "/orders", "/parked/inventory/plan"])
def test_every_control_is_reached_by_the_keyboard(page: Page, path: str) -> None:
    page.goto(path)

    assert accessibility.unreachable_controls(page) == []
