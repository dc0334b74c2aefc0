"""The pages in a real browser: on a phone and on a desk, by day and by night."""

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
import uvicorn
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from monitor.api.application import create_app
from monitor.web.filters import column_of, model_of
from tests.components import require_program
from tests.monitor.web import gallery
from tests.monitor.world import World

ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
SIZES = {"phone": (360, 740), "desk": (1280, 900)}

CONTRAST = """() => {
  const channel = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const [r, g, b, a = 1] = parse(getComputedStyle(e).backgroundColor);
      if (a > 0) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const found = {};
  for (const e of document.querySelectorAll(".s, a, p, td, th, dt, dd, h1, h2, footer, .chart .t")) {
    const style = getComputedStyle(e);
    const [a, b] = [light(parse(e.closest("svg") ? style.fill : style.color)), light(behind(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const name = `${e.tagName.toLowerCase()}.${e.getAttribute("class") ?? ""}`;
    found[name] = Math.min(found[name] ?? 99, ratio);
  }
  return found;
}"""


@dataclass
class Tab:
    """A page, and what its console complained of."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)


@pytest.fixture(scope="module")
def address(world: World) -> Iterator[str]:
    """The gallery on a real server on loopback."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(create_app(world.service), log_level="warning", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started and time.monotonic() < deadline:
        thread.join(0.01)
    assert server.started
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
    listener.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = require_program("chromium")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture
def phone(browser: Browser, address: str) -> Iterator[BrowserContext]:
    width, height = SIZES["phone"]
    context = browser.new_context(
        base_url=address, viewport={"width": width, "height": height}, is_mobile=True, has_touch=True
    )
    yield context
    context.close()


def targets(world: World) -> dict[str, str]:
    first = {alert.model: alert.id for alert in reversed(world.alerts())}
    odd = f"/models/{quote(gallery.ODD, safe='')}"
    return {
        "overview": "/",
        "drifting": f"/models/{gallery.DRIFTING}",
        "wide": f"/models/{gallery.WIDE}",
        "waiting": f"/models/{gallery.WAITING}",
        "odd": odd,
        "number": column_of("temp", gallery.DRIFTING, "1"),
        "beyond": column_of("temp", gallery.DRIFTING, "1", 900),
        "category": column_of("colour", gallery.ODD, "1"),
        "flag": column_of("flag", gallery.ODD, "1"),
        "integers": column_of("stars", gallery.ODD, "1"),
        "script": column_of(gallery.SCRIPT, gallery.ODD, "1"),
        "long": column_of("x" * 200, gallery.ODD, "1"),
        "judged": f"/models/{gallery.JUDGED}",
        "learned": column_of("amount", gallery.JUDGED, "1"),
        "mismatch": column_of("age", gallery.JUDGED, "1"),
        "segment": model_of(gallery.JUDGED, "1", f"region={gallery.REGIONS[2]}"),
        "segment's column": column_of("amount", gallery.JUDGED, "1", None, "region=eu"),
        "labelled": f"/models/{gallery.LABELLED}",
        "inaccurate": f"/alerts/{first[gallery.LABELLED]}",
        "alerts": "/alerts",
        "alert": f"/alerts/{first[gallery.WIDE]}",
        "silent": f"/alerts/{first[gallery.SILENT]}",
        "missing": "/alerts/999999",
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", list(SIZES))
def test_every_page_fits_and_can_be_read(
    browser: Browser, address: str, world: World, size: str, scheme: Any
) -> None:
    width, height = SIZES[size]
    context = browser.new_context(
        base_url=address, viewport={"width": width, "height": height}, color_scheme=scheme
    )
    tab = Tab(context.new_page())
    backgrounds = set()
    for name, target in targets(world).items():
        tab.page.goto(target)
        scrolled = tab.page.evaluate("document.scrollingElement.scrollWidth")
        assert scrolled <= width, name
        poor = {what: ratio for what, ratio in tab.page.evaluate(CONTRAST).items() if ratio < 4.5}
        assert poor == {}, name
        small = tab.page.evaluate(
            "[...document.querySelectorAll('a, summary')].map(e => [e.innerText, e.getBoundingClientRect().height])"
            ".filter(([text, height]) => height < 24)"
        )
        assert small == [], name
        crossing = tab.page.evaluate(
            "[...document.querySelectorAll('.card, td, li')].filter(e => e.scrollWidth > e.clientWidth + 1)"
            ".map(e => e.innerText.slice(0, 40))"
        )
        assert crossing == [], name
        backgrounds.add(tab.page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(backgrounds) == 1
    assert [text for text in tab.complaints if "404" not in text] == []
    context.close()


@pytest.mark.parametrize(
    "name",
    [
        *("drifting", "wide", "number", "beyond", "category", "integers", "judged", "labelled", "segment"),
        "segment's column",
    ],
)
def test_the_first_chart_is_on_the_first_screen_of_a_phone(
    phone: BrowserContext, world: World, name: str
) -> None:
    page = phone.new_page()
    page.goto(targets(world)[name])
    box = page.locator("svg.chart").first.bounding_box()
    assert box is not None
    assert box["y"] + min(box["height"], 140) <= SIZES["phone"][1]
    assert box["width"] > 250
    letters = page.evaluate(
        "[...document.querySelectorAll('.chart .t')].map(e => [e.closest('svg'), e.getBoundingClientRect()])"
        ".map(([svg, box]) => [svg.getBoundingClientRect().left - 1 <= box.left, box.right <= innerWidth, box.height])"
    )
    assert all(left and right for left, right, _ in letters)
    assert min(height for _, _, height in letters) >= 10


def test_the_first_chart_needs_nothing_but_the_page_itself(phone: BrowserContext, world: World) -> None:
    """What makes a page quick on a slow phone, whatever this machine is doing: one small answer, nothing that blocks."""
    page = phone.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.resource_type))
    page.route(
        "**/*",
        lambda route: route.continue_() if route.request.resource_type == "document" else route.abort(),
    )
    reply = page.goto(targets(world)["drifting"], wait_until="load")
    assert reply is not None
    assert len(reply.body()) <= 40 * 1024
    assert page.locator("svg.chart").first.is_visible()
    assert asked == ["document", "script"]


def test_every_link_of_a_page_means_the_same_to_a_browser(phone: BrowserContext, world: World) -> None:
    """Browsers rewrite addresses: `..` as a segment would lead elsewhere."""
    page = phone.new_page()
    page.goto(targets(world)["odd"])
    links = page.evaluate("[...document.querySelectorAll('.cols a')].map(a => [a.textContent, a.href])")
    assert len(links) == len(gallery.NASTY_COLUMNS) + 4
    for shown, link in links:
        page.goto(link)
        assert page.locator("h1 bdi").text_content() == shown
        if shown in ("..", gallery.SCRIPT):
            page.locator(".tabs a").first.click()
            assert page.locator("h1 bdi").text_content() == shown
            assert page.locator(".tabs [aria-current]").text_content() == "15m"


def test_the_pages_work_without_script(browser: Browser, address: str, world: World) -> None:
    context = browser.new_context(base_url=address, java_script_enabled=False)
    page = context.new_page()
    page.goto("/")
    page.get_by_role("link", name=gallery.DRIFTING).click()
    page.locator(".cols").get_by_role("link", name="temp").click()
    expect(page.locator("svg.chart").first).to_be_visible()
    page.get_by_role("link", name="15m").click()
    expect(page.locator(".key")).to_contain_text("last 15m")
    page.locator(".rows a").first.click()
    page.get_by_text("As it is told to receivers").click()
    expect(page.locator("details pre")).to_contain_text("What to do")
    context.close()


def test_an_open_page_stays_fresh_and_keeps_what_its_reader_did(phone: BrowserContext, world: World) -> None:
    tab = Tab(phone.new_page())
    page = tab.page
    page.clock.install()
    page.goto(targets(world)["alert"])
    page.locator("summary").click()
    moved = page.get_by_role("link", name="See what moved")
    moved.focus()
    before = page.locator("footer").inner_text()
    world.clock.advance(timedelta(minutes=1))
    page.clock.fast_forward("01:01")
    expect(page.locator("footer")).not_to_have_text(before)
    expect(moved).to_be_focused()
    expect(page.locator("details")).to_have_attribute("open", "")
    later = page.locator("footer").inner_text()
    world.clock.advance(timedelta(minutes=1))
    page.evaluate("getSelection().selectAllChildren(document.querySelector('h1'))")
    page.clock.fast_forward("01:01")
    expect(page.locator("footer")).to_have_text(later)
    page.evaluate("getSelection().removeAllRanges()")
    page.clock.fast_forward("01:01")
    expect(page.locator("footer")).not_to_have_text(later)
    assert tab.complaints == []


def test_a_page_that_cannot_be_refreshed_says_so_until_it_can(phone: BrowserContext, world: World) -> None:
    page = phone.new_page()
    page.clock.install()
    page.goto("/")
    page.route("**/*", lambda route: route.abort())
    page.clock.fast_forward("01:01")
    expect(page.get_by_role("status")).to_have_text("Not refreshed: driftd does not answer.")
    page.unroute("**/*")
    page.route("**/*", lambda route: route.fulfill(status=503))
    page.clock.fast_forward("01:01")
    expect(page.get_by_role("status")).to_have_text("Not refreshed: driftd answered 503.")
    page.unroute("**/*")
    page.clock.fast_forward("01:01")
    expect(page.get_by_role("status")).to_have_count(0)


def test_the_keyboard_reaches_every_link_and_shows_where_it_is(phone: BrowserContext, world: World) -> None:
    page = phone.new_page()
    page.goto("/")
    links = page.locator("a").count()
    seen = set()
    for _ in range(links):
        page.keyboard.press("Tab")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
        seen.add(page.evaluate("[...document.links].indexOf(document.activeElement)"))
    assert seen == set(range(links))
