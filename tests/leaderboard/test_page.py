"""The page as text: self-contained, escaped, and no heavier than it says."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

from contracts.errors import LikenessError
from contracts.protocol import Prompt
from leaderboard.report.page.contact_sheets import SIDE, choose, thumbnail
from leaderboard.report.page.plots import BOTTOM, LEFT, RIGHT, TOP, Measure, Reading, make_plot, pareto_front
from leaderboard.results.folder import Results
from tests.helpers.boards import KINDS, SIX, make_board, page_of
from tests.leaderboard.test_protocol import make_protocol

HOSTILE = '</script><script async>alert("x")</script>&\' \u202ertl 🙂 <subject>'
UP, DOWN = Measure("up", True), Measure("down", False)


def reading(label: str, x: float, y: float, kind: str = "method") -> Reading:
    return Reading(label, kind, 1, (x, None, None), (y, None, None), kind == "method")


def hostile_board(root: Path) -> tuple[Results, dict]:
    prompts = (Prompt("beach", "scene", HOSTILE), Prompt("hat", "mix", "a <subject>"))
    results, board = make_board(root, prompts=prompts)
    board["entries"][1]["manifest"] = {"method": HOSTILE, HOSTILE: 1}
    board["metrics"]["clip_t"] |= {"title": HOSTILE, "about": HOSTILE, "source": HOSTILE, "version": HOSTILE}
    board["entries"][1]["label"] = "ours"
    return results, board


def test_no_text_leaves_its_place(tmp_path: Path) -> None:
    page = page_of(*hostile_board(tmp_path))
    assert "<script async>alert" not in page and "alert(" in page, "shown as text, not run"
    assert len(re.findall(r"<script\b", page)) == 1
    assert 'x")' not in page, "no quote of a text ends an attribute"


def test_the_page_names_nothing_outside_itself(tmp_path: Path) -> None:
    page = page_of(*make_board(tmp_path))
    links = re.findall(r'(?:src|href|action)="([^"]*)"', page)
    assert links and all(link.startswith(("data:", "#")) for link in links)
    assert "@import" not in page and "url(" not in page
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None and policy[1].startswith("default-src 'none'; img-src data:;")
    assert not re.search(r'\son\w+="|\sstyle="', page), "the policy allows no inline handlers and styles"


def test_every_entry_class_subject_and_card_is_there(tmp_path: Path) -> None:
    results, board = make_board(tmp_path)
    page = page_of(results, board)
    for entry in board["entries"]:
        assert f'<tr data-entry="{entry["label"]}"' in page
    for word in (*results.protocol().subjects, "scene", "mix", board["protocol"]["hash"]):
        assert word in page
    for card in board["metrics"].values():
        assert card["version"] in page
    assert page.count('class="shot missed"') == 1
    assert "s2, hat, sample 1; no face found" in page
    assert "SpotDiff" in page, "the manifest of a run"


def test_an_object_has_no_face_to_miss(tmp_path: Path) -> None:
    page = page_of(*make_board(tmp_path, objects=["s2"]))
    assert 'data-missed="0"' in page and 'data-missed="1"' not in page
    assert "; no face found" not in page and page.count('class="shot"') == 32


def test_counts_say_that_they_are_of_images(tmp_path: Path) -> None:
    results, board = make_board(tmp_path)
    board["entries"][1]["counts"]["prompts_cut"] = 24
    page = page_of(results, board)
    for said in ("<dt>Images whose prompt was cut</dt><dd>24</dd>", "<dt>Images without a face</dt><dd>1</dd>"):
        assert said in page


def test_the_real_photo_is_not_said_to_share_the_noise(tmp_path: Path) -> None:
    page = page_of(*make_board(tmp_path))
    assert "all entries start from the same noise, but for the real photo, which has none." in page


def test_notes_stand_with_the_warnings(tmp_path: Path) -> None:
    results, board = make_board(tmp_path, subjects=SIX)
    assert "<strong>Note.</strong>" not in page_of(results, board)
    head = page_of(results, {**board, "notes": ["a <b> is twice here"]}).partition("<main>")[0]
    assert '<p class="warning" role="note"><strong>Note.</strong> a &lt;b&gt; is twice here.</p>' in head


def sections(page: str) -> dict[str, str]:
    """The page's sections by id."""
    return {found[1]: found[0] for found in re.finditer(r'<section id="([\w-]+)".*?</section>', page, re.DOTALL)}


def plot_of(page: str, name: str) -> str:
    """The one drawing with this name."""
    (found,) = re.findall(rf'<svg class="plot"[^>]*aria-label="{name}".*?</svg>', page, re.DOTALL)
    return found


def places(plot: str) -> dict[str, tuple[float, float]]:
    """Where the methods lie in a drawing."""
    point = r'data-entry="([\w-]+)" class="point [^"]*method.*?<circle cx="([\d.]+)" cy="([\d.]+)"'
    return {label: (float(x), float(y)) for label, x, y in re.findall(point, plot, re.DOTALL)}


@pytest.mark.parametrize("cost", ["Seconds to enrol", "Peak memory", "Trained parameters"])
def test_identity_is_drawn_against_each_cost(tmp_path: Path, cost: str) -> None:
    page = page_of(*make_board(tmp_path))
    assert f"<strong>Identity against cost:</strong> {cost.lower()}." in page
    plot = plot_of(page, f"Identity against {cost}")
    at = places(plot)
    assert at["theirs"][0] < at["ours"][0], "cheaper is further left"
    assert at["theirs"][1] > at["ours"][1], "SVG counts downwards: more identity is further up"
    assert plot.count('<path class="front"') == 1 and plot.count(" front-point") == 2
    front = re.search(r'<path class="front" d="M([\d.]+) ([\d.]+)H([\d.]+)V([\d.]+)"', plot)
    assert front is not None
    assert tuple(map(float, front.groups())) == (*at["theirs"], *at["ours"]), "from the cheap one to the good one"


def test_identity_is_drawn_against_prompt_with_its_front_and_intervals(tmp_path: Path) -> None:
    plot = plot_of(page_of(*make_board(tmp_path, subjects=SIX)), "Identity against prompt fit, with the Pareto front")
    at = places(plot)
    assert at["theirs"][0] > at["ours"][0] and at["theirs"][1] > at["ours"][1]
    assert plot.count('<path class="front"') == 1
    whiskers = re.findall(r'class="whisker" x1="([\d.]+)" x2="([\d.]+)" y1="([\d.]+)" y2="([\d.]+)"', plot)
    assert sum(y1 != y2 for _, _, y1, y2 in whiskers) == 3, "identity of both methods and of the floor has an interval"


def test_costs_that_are_the_same_for_all_are_not_drawn(tmp_path: Path) -> None:
    results, board = make_board(tmp_path)
    for entry in board["entries"]:
        entry["costs"] |= {"enrol_seconds": 2.0, "peak_memory_bytes": None}
    page = page_of(results, board)
    assert "Identity against Seconds to enrol" not in page and "Identity against Peak memory" not in page
    assert "Identity against Trained parameters" in page


def test_the_table_draws_every_interval(tmp_path: Path) -> None:
    results, board = make_board(tmp_path, subjects=SIX)
    rows = re.findall(r'<tr data-entry="([\w-]+)"(.*?)</tr>', sections(page_of(results, board))["table"], re.DOTALL)
    assert [label for label, _ in rows] == [entry["label"] for entry in board["entries"]]
    for (_, row), entry in zip(rows, board["entries"], strict=True):
        known = [found for found in entry["metrics"].values() if found["value"] is not None]
        bars = re.findall(r'class="range" x1="([\d.]+)" x2="([\d.]+)".*?<circle cx="([\d.]+)"', row, re.DOTALL)
        assert len(bars) == len(known)
        for (low, high, value), found in zip(bars, known, strict=True):
            assert 0 <= float(low) <= float(value) <= float(high) <= 100
            assert (float(low) < float(high)) == (found["low"] is not None and found["low"] < found["high"])
            if found["low"] is not None:
                assert f"{found['low']:.3f} to {found['high']:.3f}" in row


@pytest.mark.parametrize("metric", ["identity_misses_zero", "edit_margin"])
def test_breakdowns_show_classes_and_subjects(tmp_path: Path, metric: str) -> None:
    results, board = make_board(tmp_path, subjects=SIX)
    breakdown = sections(page_of(results, board))["breakdown"]
    assert f'<option value="{metric}">' in breakdown
    (part,) = re.findall(rf'data-metric="{metric}".*?(?=data-metric=|</section>)', breakdown, re.DOTALL)
    by_class, by_subject = part[: part.index(" by subject</h3>")], part[part.index(" by subject</h3>") :]
    for table, key, names in ((by_class, "by_class", ("scene", "mix")), (by_subject, "by_subject", ("s1", "s2"))):
        for name in names:
            (row,) = re.findall(rf'<tr><th scope="row" data-sort="{name}">.*?</tr>', table, re.DOTALL)
            cells = re.findall(r'<td class="num" data-entry="([\w-]+)" data-sort="([^"]*)"', row)
            expected = {entry["label"]: entry[key][name][metric] for entry in board["entries"]}
            values = {k: v["value"] if isinstance(v, dict) else v for k, v in expected.items()}
            assert {label: float(value) for label, value in cells} == pytest.approx(values)
            assert row.count('class="bar ') == len(values)
    assert "<bdi>ours</bdi> − <bdi>theirs</bdi>" in part, "the paired test stands beside them"


def test_a_quick_look_is_marked(tmp_path: Path) -> None:
    assert "Quick look." in page_of(*make_board(tmp_path / "quick", limit=4))
    assert "Quick look." not in page_of(*make_board(tmp_path / "whole"))


@pytest.mark.parametrize(
    ("subjects", "prompts", "samples", "entries"), [(2, 2, 2, 4), (100, 40, 4, 5), (1, 900, 1, 3), (3, 8, 64, 12)]
)
def test_a_page_never_holds_more_images_than_it_may(subjects: int, prompts: int, samples: int, entries: int) -> None:
    protocol = make_protocol(
        subjects={f"s{i}": "person" for i in range(subjects)},
        prompts=tuple(Prompt(f"p{i}", "scene", "a <subject>") for i in range(prompts)),
        samples=samples,
    )
    choice = choose(protocol, entries, 100)
    shown = len(choice.subjects) * len(choice.prompts) * choice.samples
    assert 0 < shown * entries <= 100
    assert bool(choice.missing(protocol)) == (shown < subjects * prompts * samples)


def test_what_is_not_shown_is_said(tmp_path: Path) -> None:
    results, board = make_board(tmp_path)
    page = page_of(results, board, max_images=len(KINDS) * 2)
    assert page.count('class="shot') == len(KINDS) * 2
    assert "Shown here: 1 of 2 subjects, 1 of 2 samples;" in page


def test_thumbnails_are_small_and_damage_is_named(tmp_path: Path) -> None:
    results, _ = make_board(tmp_path)
    data = results.reference("s1").read_bytes()
    assert thumbnail(data, "s1")[8:12] == b"WEBP"
    assert len(thumbnail(data, "s1")) < 30 * SIDE
    with pytest.raises(LikenessError, match=r"s1\.png is no readable"):
        thumbnail(data[:40], "s1.png")


def test_the_front_is_what_nothing_beats() -> None:
    readings = [reading("a", 1, 5), reading("b", 2, 4), reading("c", 1.5, 3), reading("d", 3, 1), reading("e", 3, 0.5)]
    assert [r.label for r in pareto_front(readings, UP, UP)] == ["d", "b", "a"]
    assert [r.label for r in pareto_front(readings, DOWN, UP)] == ["a"]


def test_a_plot_keeps_everything_inside_and_labels_apart() -> None:
    crowd = [reading(f"m{i}", 0.5 + 1e-4 * i, 0.2) for i in range(9)] + [reading("floor", 0.6, 0.0, "floor")]
    plot = make_plot(UP, UP, crowd, {"real-photo": 0.9})
    assert all(LEFT <= p.x <= RIGHT and TOP <= p.y <= BOTTOM for p in plot.points)
    heights = sorted(p.label_y for p in plot.points)
    assert all(b - a >= 12 for a, b in pairwise(heights))
    assert not any(p.on_front for p in plot.points if p.reading.kind == "floor"), "a floor is no competitor"
    assert 3 <= len(plot.x_ticks) <= 8 and 3 <= len(plot.y_ticks) <= 8


def test_one_method_makes_a_plot_too() -> None:
    plot = make_plot(Measure("cost", False, logarithmic=True), UP, [reading("a", 30.0, 0.2)], {})
    assert plot.front == "" and plot.points[0].on_front and plot.x_ticks
