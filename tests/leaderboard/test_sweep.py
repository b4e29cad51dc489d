"""A sweep: what a method turns, which points are generated, the columns of the curve, and how the page draws it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from contracts.entries import sweep_values
from contracts.errors import LikenessError
from contracts.files import write_json
from evaluate import main
from leaderboard.plan.entries import find_points, find_runs
from leaderboard.report.board import make_leaderboard
from leaderboard.report.scored import read_scored
from leaderboard.report.tables.head_to_head import compare_entries
from leaderboard.results.entry import Entry
from leaderboard.results.folder import Results
from leaderboard.verify import verify
from lightning_modules.run import Run
from metrics.curve import CURVES, likeness_at
from metrics.registry import METRICS
from networks.adapter_file import write_adapter
from tests.helpers.boards import FIT, IDENTITY, KINDS, SIX, board_of, make_results, page_of
from tests.leaderboard.conftest import World


@pytest.mark.parametrize("text", ["0.2,x", "0.2,,0.4", "nan", "1e999"])
def test_what_is_no_number_is_refused(text: str) -> None:
    assert sweep_values("0.8,0.2,0.8") == [0.2, 0.8] and sweep_values("") == []
    with pytest.raises(LikenessError, match=r"--sweep: .* is no number: give numbers such as 0\.2,0\.4"):
        sweep_values(text)


def test_an_encoder_turns_its_scale(world: World) -> None:
    (run,) = find_runs([f"a={world.run}"])
    own, half = find_points(run, [0.5, 1.0])
    assert own.entry == replace(run.entry, knob={"name": "scale", "value": 1.0}), "its own value is itself"
    assert (half.entry.label, half.entry.knob) == ("a@0.5", {"name": "scale", "value": 0.5})
    assert half.entry.settings == half.entry.run().settings_hash != run.entry.settings
    assert half.entry.weights == run.entry.weights and half.run.arguments["scale"] == 0.5
    with pytest.raises(LikenessError, match=r"spotdiff: scale cannot be -1: it is at least 0, the base model"):
        find_points(run, [-1.0])


def test_a_knob_that_a_method_does_not_have_is_one_line(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (run,) = find_runs([f"a={world.run}"])
    monkeypatch.setattr(run.run.method, "knob", "loudness")
    with pytest.raises(LikenessError, match=r"SpotDiff has no 'loudness' to turn: its `knob` names another one"):
        find_points(run, [0.5])


def test_token_vectors_turn_their_steps(world: World, tmp_path: Path) -> None:
    write_json(tmp_path / "config.yaml", {"model": {"class_path": "lightning_modules.SefiIDE", "init_args": {}}})
    write_json(tmp_path / "manifest.json", {"steps": 40})
    for place in (Run(tmp_path).adapter_file, Run(tmp_path).adapter_of(10), Run(tmp_path).adapter_of(20)):
        write_adapter(place, {"w": torch.ones(len(place.name))}, {"method": "SefiIDE", "backbone": "b"})
    (run,) = find_runs([f"a={tmp_path}"])
    own, quarter = find_points(run, [0.25, 1.0])
    assert own.run.own_value == 1.0 and Run(tmp_path, 10).own_value == 0.25
    assert (quarter.run.adapter_file, quarter.entry.folder) == (Run(tmp_path).adapter_of(10), f"{tmp_path}@10")
    assert quarter.entry.run().adapter_file == quarter.run.adapter_file
    with pytest.raises(LikenessError, match=r"has no adapter of 0\.3 of its 40 steps, it kept those of 0\.25, 0\.5: "):
        find_points(run, [0.3])


def test_the_curve_is_read_where_it_crosses() -> None:
    likeness, kept = np.array([0.2, 0.4, 0.6]), np.array([1.0, 0.96, 0.9])
    assert likeness_at(likeness, kept, 0.95) == pytest.approx(0.4 + 0.2 / 6)
    assert likeness_at(likeness, kept, 0.96) == pytest.approx(0.4)
    assert np.isnan(likeness_at(likeness, kept, 0.89)) and np.isnan(likeness_at(likeness, kept, 1.01))
    back = likeness_at(np.array([0.2, 0.4, 0.1]), np.array([1.0, 0.9, 1.0]), 0.95)
    assert back == pytest.approx(0.3), "the better of two crossings"
    many = likeness_at(np.stack([likeness, likeness + 0.1], axis=1), np.stack([kept, kept - 0.2], axis=1), 0.95)
    assert many[0] == pytest.approx(0.4 + 0.2 / 6) and np.isnan(many[1])


def test_the_area_rewards_likeness_that_costs_no_prompt() -> None:
    area, floor = CURVES["identity_prompt_area"].read, np.array(0.1)
    flat = area(np.array([0.5, 0.5]), np.array([1.0, 0.8]), floor)
    assert flat == pytest.approx(0.5)
    steep = area(np.array([0.5, 0.5]), np.array([0.9, 0.8]), floor)
    assert steep == pytest.approx((0.5 * 21 + 0.1 * 20) / 41), "above what it keeps there is the base model"


@pytest.fixture
def swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Results:
    """``ours`` and ``theirs`` at three settings each; more of the subject costs prompt, and ``theirs`` more of it."""
    points = {"ours@0.2": (0.2, 0.248), "ours@2": (0.7, 0.23), "theirs@0.2": (0.2, 0.245), "theirs@2": (0.4, 0.2)}
    for label, (identity, fit) in points.items():
        monkeypatch.setitem(IDENTITY, label, identity)
        monkeypatch.setitem(FIT, label, fit)
    monkeypatch.setitem(FIT, "theirs", 0.235)
    results = make_results(tmp_path, kinds=KINDS | dict.fromkeys(points, "method"), subjects=SIX)
    for label in ("ours", "theirs", *points):
        turn(results, label, float(label.partition("@")[2] or 1))
    return results


def turn(results: Results, label: str, value: float) -> None:
    path = results.entry(label).entry_file
    write_json(path, json.loads(path.read_text()) | {"knob": {"name": "scale", "value": value}})


def row_of(board: dict, label: str) -> dict:
    return next(entry for entry in board["entries"] if entry["label"] == label)


def test_points_are_no_rows_but_columns(swept: Results) -> None:
    board = board_of(swept)
    assert sorted(entry["label"] for entry in board["entries"]) == sorted(KINDS)
    ours = row_of(board, "ours")
    assert [(p["value"], round(p["metrics"]["prompt_kept"]["value"], 3)) for p in ours["sweep"]["points"]] == [
        (0.2, 0.992), (1.0, 0.96), (2.0, 0.92)
    ]  # fmt: skip
    assert (ours["sweep"]["knob"], ours["sweep"]["own"]) == ("scale", 1.0)
    at = ours["metrics"]["identity_at_prompt_0.95"]
    values = [point["metrics"]["identity_misses_zero"]["value"] for point in ours["sweep"]["points"]]
    assert at["value"] == pytest.approx(values[1] + (values[2] - values[1]) / 4, abs=1e-5)
    assert at["low"] < at["value"] < at["high"] and at["n"] == 6
    theirs = row_of(board, "theirs")["metrics"]["identity_at_prompt_0.95"]["value"]
    (pair,) = board["comparisons"]["identity_at_prompt_0.95"]
    assert pair["difference"] == pytest.approx(at["value"] - theirs, abs=1e-6) and pair["p_holm"] < 0.05
    assert board["ties"]["identity_at_prompt_0.95"] == {"ours": 1, "theirs": 2}
    area = {e["label"]: e["metrics"]["identity_prompt_area"]["value"] for e in board["entries"]}
    assert area["ours"] > area["theirs"] and area["prompt-only"] is None
    assert "identity at prompt 0.95" in compare_entries(swept, "ours", "theirs")
    assert compare_entries(swept, "ours", "prompt-only").count("prompt 0.95") == 0
    assert not verify(swept).problems[1:], "there is no report yet, and nothing else"


def test_a_curve_that_does_not_reach_the_share_is_not_known(swept: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    for label in ("theirs@0.2", "theirs", "theirs@2"):
        path = swept.entry(label).root / "records.jsonl"
        path.write_text(path.read_text().replace('"clip_t":0.2', '"clip_t":0.1'))
    board = board_of(swept)
    found = row_of(board, "theirs")["metrics"]["identity_at_prompt_0.95"]
    assert (found["value"], found["low"]) == (None, None)
    assert board["comparisons"]["identity_at_prompt_0.95"][0]["p"] is None
    assert board["ties"]["identity_at_prompt_0.95"] == {"ours": 1}


def test_without_a_sweep_there_are_no_such_columns(tmp_path: Path) -> None:
    results = make_results(tmp_path, subjects=SIX)
    board = board_of(results)
    assert not set(CURVES) & set(board["metrics"]) and not set(CURVES) & set(METRICS)
    assert "along each method" not in page_of(results, board)
    turn(results, "ours", 1.0)
    assert board_of(results) == board, "one point is no curve"
    assert Entry.read(results.entry("theirs").entry_file).to_json().keys() == Entry("a", "method").to_json().keys()


def test_a_damaged_knob_is_one_line(tmp_path: Path) -> None:
    results = make_results(tmp_path, subjects=SIX)
    path = results.entry("ours").entry_file
    write_json(path, json.loads(path.read_text()) | {"knob": {"name": "scale"}})
    with pytest.raises(LikenessError, match=r"knob is \{'name': 'scale'\}, no name with a value"):
        read_scored(results)


def test_trainings_have_a_curve_together(swept: Results) -> None:
    for name in ("ours", "ours@0.2", "ours@2"):
        source, label = swept.entry(name), name.replace("ours", "ours+2")
        for path in source.root.rglob("*"):
            if path.is_file():
                target = swept.entry(label).root / path.relative_to(source.root)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
        path = swept.entry(label).entry_file
        write_json(path, json.loads(path.read_text()) | {"label": label, "weights": "second"})
    ours = row_of(make_leaderboard(swept, read_scored(swept)), "ours")
    found = ours["metrics"]["identity_at_prompt_0.95"]
    assert len(ours["trainings"]) == 2 and found["low"] < found["value"] < found["high"]
    assert len(ours["sweep"]["points"]) == 3


def test_the_page_draws_the_curves(swept: Results) -> None:
    page = page_of(swept, board_of(swept))
    assert page.count('class="curve c') == 2 and page.count('class="band"') == 2 and page.count('class="matched"') == 1
    assert "ours, scale 0.2: " in page and page.count("<title>theirs, scale ") == 3
    assert 'data-entry="ours@0.2"' not in page
    assert "Identity at prompt 0.95, head to head" in page and "Identity at prompt 0.95 by subject" not in page


def test_from_the_command_to_the_curve(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = str(tmp_path / "results")
    evaluate = ["--config", str(world.config), "--output", results, "--runs", f"a={world.run}"]
    assert main([*evaluate, "--sweep", "0,1"]) == 0
    base, floor = (tmp_path / f"results/entries/{name}/images" for name in ("a@0", "prompt-only"))
    images = sorted(path.name for path in base.iterdir())
    pixels = [[np.asarray(Image.open(folder / name)) for name in images] for folder in (base, floor)]
    assert len(images) == 12 and np.array_equal(*pixels), "scale 0 is the base model"
    assert main([*evaluate, "--sweep", "0,0.5"]) == 0
    out = capsys.readouterr().out
    assert "a@0: 0 images generated, 12 were there" in out and "a@0.5: 12 images generated" in out
    assert main(evaluate) == 0
    board = json.loads((tmp_path / "results/leaderboard.json").read_text())
    assert [p["value"] for p in row_of(board, "a")["sweep"]["points"]] == [0.0, 0.5, 1.0], "they stay"
    assert main(["--verify", results]) == 0
    assert main([*evaluate, "--sweep", "0.5,-2"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: --sweep: ") and "scale cannot be -2" in line
