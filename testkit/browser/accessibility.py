"""Rules of WCAG 2 that a browser can check: contrast, names of controls, keyboard, and reflow."""

from playwright.sync_api import Page

#: A script that returns each text whose contrast is below level AA: 4.5, or 3 for large text.
_CONTRAST = """() => {
  const parse = (text) => {
    const numbers = text.match(/-?[\\d.]+(e-?\\d+)?/g)?.map(Number) ?? [0, 0, 0, 0];
    const scale = text.startsWith("color(") ? 255 : 1;
    return [...numbers.slice(0, 3).map((n) => n * scale), numbers[3] ?? 1];
  };
  const over = (top, below) => {
    const [alpha, rest] = [top[3], 1 - top[3]];
    return [0, 1, 2].map((i) => top[i] * alpha + below[i] * rest).concat(1);
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.slice(0, 3).map((n) => n / 255)
      .map((n) => (n <= 0.04045 ? n / 12.92 : ((n + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    const layers = [];
    const shape = element.closest?.("svg a")?.querySelector("rect");
    if (shape && element !== shape) layers.push(parse(getComputedStyle(shape).fill));
    for (let each = element; each; each = each.parentElement) {
      layers.push(parse(getComputedStyle(each).backgroundColor));
      if (layers.at(-1)[3] === 1) break;
    }
    return layers.reduceRight((below, top) => over(top, below), [255, 255, 255, 1]);
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const text = walker.currentNode.data.trim();
    const drawn = ["SCRIPT", "title", "desc", "OPTION"].includes(element.tagName);
    if (!text || drawn || !element.checkVisibility() || element.closest(".hidden, .skip")) continue;
    const style = getComputedStyle(element);
    const below = ground(element);
    const ink = element.namespaceURI.endsWith("svg") ? style.fill : style.color;
    const front = over(parse(ink), below);
    const [a, b] = [light(front), light(below)].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize);
    const needed = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < needed) found.push(`${text.slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return found;
}"""

#: A script that returns each field without a label, and each link and button without a name.
_NAMES = """() => {
  const named = (element) =>
    element.getAttribute("aria-label") || element.getAttribute("aria-labelledby") ||
    (element.labels?.length && element.labels[0].textContent.trim()) ||
    (!element.matches("input, select, textarea") && element.textContent.trim());
  return [...document.querySelectorAll("a, button, input:not([type=hidden]), select, textarea")]
    .filter((element) => !named(element)).map((element) => element.outerHTML.slice(0, 100));
}"""

_VISIBLE = """[...document.querySelectorAll("a[href], button, input:not([type=hidden]), select,"
    + " textarea, summary, [tabindex='0']")].filter((each) => each.checkVisibility())"""

#: A script that returns the names of the elements that a user can operate.
_CONTROLS = f"""() => {_VISIBLE}.map((each) =>
  (each.getAttribute("aria-label") || each.textContent || each.id).trim().slice(0, 40))"""

#: A script that returns the position of the focused element among them, because a live page
#: replaces elements.
_FOCUSED = f"() => {_VISIBLE}.indexOf(document.activeElement)"

_OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


def faint_texts(page: Page) -> list[str]:
    """Return each visible text whose contrast is below level AA, with its contrast."""
    found: list[str] = page.evaluate(_CONTRAST)
    return found


def nameless_controls(page: Page) -> list[str]:
    """Return the HTML of each field, link and button that has no name."""
    found: list[str] = page.evaluate(_NAMES)
    return found


def unreachable_controls(page: Page) -> list[str]:
    """Return the names of visible controls that the tab key does not reach."""
    names: list[str] = page.evaluate(_CONTROLS)
    reached = set[int]()
    # A field for a time has a stop for each of its parts.
    for _ in range(8 * len(names)):
        if len(reached - {-1}) == len(names):
            break
        page.keyboard.press("Tab")
        reached.add(page.evaluate(_FOCUSED))
    return [name for number, name in enumerate(names) if number not in reached]


def overflow(page: Page) -> int:
    """Return the number of pixels by which the page is wider than its window."""
    pixels: int = page.evaluate(_OVERFLOW)
    return pixels
