"""The built manual from disk: its lenses move with no kernel and no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.browser.jupyter import into_view, settled, until

pytestmark = pytest.mark.browser

AS_HIGH = "document.documentElement.offsetHeight === window.innerHeight"
WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


def test_every_live_lens_of_the_manual_moves(browser: Any, built: Path) -> None:
    pages = [path for path in sorted(built.rglob("*.html")) if 'class="live"' in path.read_text()]
    assert len(pages) >= 6
    moved: set[str] = set()
    for path in pages:
        page = browser.new_page(viewport={"width": 1000, "height": 1200})
        asked: list[str] = []
        errors: list[str] = []
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        page.on("pageerror", lambda error, errors=errors: errors.append(str(error)))
        page.goto(path.as_uri())
        for live in page.locator("iframe.live").element_handles():
            if (name := str(live.get_attribute("src")).rpartition("live/")[2]) in moved:
                continue
            moved.add(name)
            into_view(live)
            frame = live.content_frame()
            heat = frame.locator("canvas.map")
            heat.wait_for()
            before = settled(heat)
            frame.locator('.signals button[aria-pressed="false"]').first.click()
            until(page, lambda heat=heat, before=before: settled(heat) != before, "another map")
            said = frame.locator("#grulens-main").inner_text()
            frame.locator("input[type=range]").nth(1).focus()
            page.keyboard.press("ArrowLeft")
            differs = "(said) => document.getElementById('grulens-main').innerText !== said"
            frame.wait_for_function(differs, arg=said)
        page.screenshot(path=str(Path(__file__).parent / "shots" / f"manual-{path.stem}.png"))
        assert not errors
        assert not [url for url in asked if url.startswith("http")]
        page.close()


@pytest.mark.parametrize("name", ["cell.html", "zh/cell.html", "notebooks/02_how_a_gru_works.html"])
def test_the_cell_of_the_manual_is_stepped_through(browser: Any, built: Path, name: str) -> None:
    page = browser.new_page(viewport={"width": 1000, "height": 1200})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((built / name).as_uri())
    held = page.locator("iframe.stepped")
    held.scroll_into_view_if_needed()
    frame = held.element_handle().content_frame()
    frame.locator("button.on").click()
    for width in (1280, 700, 1000):  # the frame is as high as the page in it
        page.set_viewport_size({"width": width, "height": 1200})
        until(page, lambda: frame.evaluate(AS_HIGH), "a frame as high as its page")
    assert "B" in frame.locator('[aria-current="step"]').inner_text()
    assert frame.locator("html").get_attribute("lang") == ("zh-CN" if "zh" in name else "en")
    assert not errors
    page.close()


@pytest.mark.parametrize(
    ("asked", "first"),
    [
        ("z convention", "glossary.html"),
        ("glossary", "glossary.html"),
        ("cite", "cite.html"),
        ("隐状态", "zh/glossary.html"),
        ("更新门", "zh/glossary.html"),
        ("多台机器", "zh/how-to/scan-on-a-cluster.html"),
        ("读自然语言", "notebooks/zh/01_tour.html"),
    ],
)
def test_the_search_finds_the_right_page_first(
    browser: Any, built: Path, asked: str, first: str
) -> None:
    page = browser.new_page()
    page.goto(f"{(built / 'search.html').as_uri()}?q={quote(asked)}")
    link = page.locator("ul.search li a").first
    link.wait_for()
    assert str(link.get_attribute("href")).partition("#")[0].partition("?")[0] == first
    page.close()


@pytest.mark.parametrize(
    ("begin", "title", "said"),
    [
        ("zh/how-to/where-it-works.html", "搜索结果", "搜索完成"),
        ("how-to/where-it-works.html", "Search Results", "Search finished"),
    ],
)
def test_the_search_speaks_as_the_page_from_which_it_is_asked(
    browser: Any, built: Path, begin: str, title: str, said: str
) -> None:
    page = browser.new_page()
    page.goto((built / begin).as_uri())
    box = page.locator("input.sidebar-search")
    box.fill("GRU")
    box.press("Enter")
    found = page.locator("#search-results")
    found.get_by_text(said).wait_for()
    assert title in found.inner_text()
    assert page.locator("html").get_attribute("lang") == ("zh-CN" if "zh" in begin else "en")
    found.locator("ul.search li a").first.click()
    page.locator("article h1").first.wait_for()
    page.close()


def test_frames_have_the_theme_of_the_manual(browser: Any, built: Path) -> None:
    page = browser.new_page(color_scheme="light")
    page.goto((built / "cell.html").as_uri())
    frame = page.locator("iframe.stepped").element_handle().content_frame()
    for theme in ("dark", "light"):
        page.evaluate("(theme) => { document.body.dataset.theme = theme; }", theme)
        frame.wait_for_function("(t) => document.documentElement.dataset.theme === t", arg=theme)
    page.close()


def test_no_page_of_the_manual_scrolls_sideways(browser: Any, built: Path) -> None:
    page = browser.new_page(viewport={"width": 1000, "height": 900})
    wide = {}
    for path in sorted(built.rglob("*.html")):
        if not path.is_relative_to(built / "live"):
            page.goto(path.as_uri(), wait_until="domcontentloaded")
            if (more := page.evaluate(WIDE)) > 0:
                wide[str(path.relative_to(built))] = more
    page.close()
    assert wide == {}
