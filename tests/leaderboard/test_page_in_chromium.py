"""The page in a real browser: a person sorts, filters and opens images with mouse and keyboard."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from contracts.files import write_atomically
from contracts.protocol import Prompt
from tests.helpers.boards import SIX, make_board, page_of
from tests.helpers.browser import CHROMIUM, Browser, browser
from tests.helpers.browser import main as write_picture_of

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH: install Debian's package chromium")

VISIBLE_ROWS = "[...document.querySelectorAll('.main tbody tr')].filter(r => !r.hidden).map(r => r.dataset.entry)"
HOSTILE = (
    '</script><script async>document.title = "broken"</script><img src=x onerror="document.title = 1"> <subject> 🙂'
)
FIRST_SHOT = ".shot:not([hidden])"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("page")
    prompts = (
        Prompt("beach", "scene", HOSTILE),
        Prompt("hat", "mix", "a <subject>"),
        Prompt("sketch", "style", "a sketch of a <subject>"),
    )
    results, board = make_board(root / "results", prompts=prompts, subjects=SIX)
    board["entries"][1]["manifest"] = {"method": HOSTILE}
    path = root / "page.html"
    write_atomically(path, page_of(results, board).encode())
    return path


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as started:
        yield started


@pytest.fixture(autouse=True)
def silent(page: Path, chromium: Browser) -> Iterator[None]:
    """Every test starts with a fresh page and ends without a word from the console."""
    chromium.problems.clear()
    chromium.open(page)
    yield
    assert chromium.problems == []
    assert chromium.run("document.title").startswith("Leaderboard")


def column(chromium: Browser, title: str) -> str:
    """A selector of the sort button whose column is called ``title``."""
    titles = chromium.run("[...document.querySelectorAll('.main thead th')].map(th => th.textContent)")
    return f".main thead th:nth-child({next(i for i, t in enumerate(titles, 1) if title in t)}) button"


def test_a_click_sorts_and_another_turns_it_round(chromium: Browser) -> None:
    button = column(chromium, "Clip t")
    chromium.click(button)
    assert chromium.run(VISIBLE_ROWS) == ["theirs", "prompt-only", "ours", "real-photo"]
    assert chromium.run("document.querySelector('th[aria-sort]').getAttribute('aria-sort')") == "descending"
    chromium.click(button)
    assert chromium.run(VISIBLE_ROWS) == ["real-photo", "ours", "prompt-only", "theirs"]
    chromium.click(column(chromium, "Entry"))
    assert chromium.run(VISIBLE_ROWS) == ["ours", "prompt-only", "real-photo", "theirs"]


def test_values_that_are_not_there_come_last_both_ways(chromium: Browser) -> None:
    for _ in range(2):
        chromium.click(column(chromium, "Seconds to enrol"))
        assert set(chromium.run(VISIBLE_ROWS)[:2]) == {"ours", "theirs"}


def test_the_filter_works_on_the_whole_page(chromium: Browser) -> None:
    chromium.choose("#entry-filter", "OUR")
    assert chromium.run(VISIBLE_ROWS) == ["ours"]
    assert chromium.run("document.getElementById('shown').textContent") == "1 of 4 entries"
    nodes = "[...document.querySelectorAll('[data-entry]')].filter(n => !n.hasAttribute('hidden'))"
    assert set(chromium.run(f"{nodes}.map(n => n.dataset.entry)")) == {"ours"}
    chromium.choose("#entry-filter", "")
    assert len(chromium.run(VISIBLE_ROWS)) == 4


def test_columns_come_by_group(chromium: Browser) -> None:
    shown = "[...document.querySelectorAll('.main thead th')].filter(th => !th.hidden).length"
    before = chromium.run(shown)
    chromium.choose("#column-group", "all")
    assert chromium.run(shown) > before
    chromium.choose("#column-group", "distribution")
    assert chromium.run(shown) == 2
    widths = chromium.run(
        "[...document.querySelectorAll('.main tr')].map(r => [...r.cells].filter(c => !c.hidden).length)"
    )
    assert set(widths) == {2}


def test_an_image_opens_beside_its_rivals_and_the_keys_walk_on(chromium: Browser) -> None:
    chromium.click(FIRST_SHOT)
    assert chromium.run("document.getElementById('viewer').open")
    assert chromium.run("document.getElementById('viewer-title').textContent") == "s1, beach, sample 1"
    names = "[...document.querySelectorAll('#viewer-images b')].map(b => b.textContent)"
    assert chromium.run(names) == ["reference", "real-photo", "ours", "theirs", "prompt-only"]
    chromium.wait("[...document.querySelectorAll('#viewer-images img')].every(i => i.naturalWidth > 0)")
    chromium.press("ArrowRight")
    assert chromium.run("document.getElementById('viewer-title').textContent") == "s1, hat, sample 1"
    chromium.press("ArrowLeft")
    chromium.press("Escape")
    assert not chromium.run("document.getElementById('viewer').open")


def test_the_keyboard_reaches_and_opens_an_image(chromium: Browser) -> None:
    chromium.run(f"document.querySelector({json.dumps(FIRST_SHOT)}).focus()")
    chromium.press("Enter")
    chromium.wait("document.getElementById('viewer').open")
    chromium.press("Escape")
    chromium.wait("!document.getElementById('viewer').open")
    assert chromium.run("document.activeElement.classList.contains('shot')"), "focus goes back to where it was"


def test_tab_goes_through_every_control_in_order(chromium: Browser) -> None:
    seen = []
    for _ in range(10):
        chromium.press("Tab")
        seen.append(chromium.run("document.activeElement.id || document.activeElement.tagName"))
    assert seen[:6] == ["A"] * 6
    assert seen[6:8] == ["entry-filter", "column-group"]


def test_missed_faces_are_marked_and_can_be_picked_out(chromium: Browser) -> None:
    assert chromium.run("document.querySelectorAll('.shot.missed .badge').length") == 1
    chromium.choose("#missed", True)
    sheets = "[...document.querySelectorAll('.sheet')].filter(s => !s.hidden).map(s => s.dataset.subject)"
    assert chromium.run(sheets) == ["s2"]
    chromium.choose("#prompt-class", "style")
    assert chromium.run(sheets) == []
    assert not chromium.run("document.getElementById('no-sheet').hidden")


def test_samples_and_subjects_can_be_chosen(chromium: Browser) -> None:
    shown = "[...document.querySelectorAll('.shot')].filter(s => !s.hidden && s.offsetParent).map(s => s.dataset.key)"
    chromium.choose("#sample", "1")
    chromium.choose("#subject", "s2")
    assert {key.split(".")[0] for key in chromium.run(shown)} == {"s2"}
    assert {key.split(".")[2] for key in chromium.run(shown)} == {"1"}


def test_the_breakdown_changes_its_metric(chromium: Browser) -> None:
    shown = "[...document.querySelectorAll('.breakdown')].filter(p => !p.hidden).map(p => p.dataset.metric)"
    assert chromium.run(shown) == ["identity_misses_zero"]
    chromium.choose("#breakdown-metric", "clip_t")
    assert chromium.run(shown) == ["clip_t"]
    assert "ours − theirs" in chromium.run("document.querySelector('.breakdown:not([hidden])').innerText")


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_nothing_sticks_out_sideways(chromium: Browser, page: Path, width: int) -> None:
    chromium.open(page, width, 844)
    assert chromium.run("document.documentElement.scrollWidth") <= width


def test_paper_shows_what_the_screen_folds(chromium: Browser) -> None:
    chromium.run("dispatchEvent(new Event('beforeprint'))")
    assert chromium.run("document.querySelectorAll('details:not([open])').length") == 0
    chromium.run("dispatchEvent(new Event('afterprint'))")
    assert chromium.run("document.querySelectorAll('details[open]').length") == 0
    assert chromium.pdf().startswith(b"%PDF")


PAPER = round((297 - 2 * 12) / 25.4 * 96)  # A4 landscape within its margins, in CSS pixels


def test_a_table_with_all_columns_is_not_cut_off_by_paper(chromium: Browser, tmp_path: Path) -> None:
    """With as many columns as all judges give, which no paper holds: the headline is printed, then all come back."""
    results, board = make_board(tmp_path / "results")
    for i in range(20):
        board["metrics"][f"more_{i}"] = {**board["metrics"]["edit_margin"], "name": f"more_{i}", "headline": False}
        for entry in board["entries"]:
            entry["metrics"][f"more_{i}"] = entry["metrics"]["edit_margin"]
    wide = tmp_path / "wide.html"
    write_atomically(wide, page_of(results, board).encode())
    chromium.open(wide, PAPER, 760)
    chromium.choose("#column-group", "all")
    chromium.call("Emulation.setEmulatedMedia", media="print")
    try:
        width = "document.querySelector('.main').getBoundingClientRect().right"
        assert chromium.run(width) > PAPER, "all columns do not fit"
        chromium.run("dispatchEvent(new Event('beforeprint'))")
        assert chromium.run(width) <= PAPER
        assert chromium.run("document.documentElement.scrollWidth") <= PAPER
        shown = "[...document.querySelectorAll('.main thead th')].filter(th => !th.hidden).length"
        assert 1 < chromium.run(shown) < 12
        chromium.run("dispatchEvent(new Event('afterprint'))")
        assert chromium.run(shown) > 30
    finally:
        chromium.call("Emulation.setEmulatedMedia", media="")


@pytest.mark.parametrize("group", ["headline", "identity", "text", "cost"])
def test_every_other_choice_of_columns_prints_as_it_is(chromium: Browser, page: Path, group: str) -> None:
    chromium.open(page, PAPER, 760)
    chromium.choose("#column-group", group)
    shown = "[...document.querySelectorAll('.main thead th')].filter(th => !th.hidden).map(th => th.textContent)"
    before = chromium.run(shown)
    chromium.call("Emulation.setEmulatedMedia", media="print")
    try:
        chromium.run("dispatchEvent(new Event('beforeprint'))")
        assert chromium.run(shown) == before
        assert chromium.run("document.querySelector('.main').getBoundingClientRect().right") <= PAPER
        chromium.run("dispatchEvent(new Event('afterprint'))")
    finally:
        chromium.call("Emulation.setEmulatedMedia", media="")


def test_a_text_that_is_code_stays_a_text(chromium: Browser) -> None:
    assert chromium.run("document.querySelectorAll('img[src=x]').length") == 0
    assert chromium.run("document.body.textContent.includes('onerror=')")


def test_the_command_for_the_readme_writes_a_picture(page: Path, tmp_path: Path) -> None:
    write_picture_of(page, tmp_path / "images" / "page.png")
    picture = Image.open(tmp_path / "images" / "page.png")
    assert picture.width == 1280
    assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 50, "not a blank page"
