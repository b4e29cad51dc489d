"""Drift: prompts that name nobody, generated with every adapter at work, and what the board says of them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from contracts.errors import LikenessError
from contracts.files import write_json
from contracts.protocol import Prompt
from evaluate import main
from leaderboard.plan.prompts import read_prompts
from leaderboard.report.tables.head_to_head import compare_entries
from leaderboard.results.folder import Results
from leaderboard.results.lines import json_line
from leaderboard.results.vectors import encode_vector
from metrics.card import versions
from tests.helpers.boards import SIX, board_of, cards, make_results
from tests.leaderboard.conftest import World

PROMPT = {"id": "nobody-lake", "class": "scene", "text": "a photo of a person, by a lake"}
ANGLES = {"prompt-only": 0.0, "ours": 0.3, "theirs": 0.6}


def test_the_shipped_sets_name_nobody(tmp_path: Path) -> None:
    for name in ("pocket", "people"):
        assert read_prompts(f"configs/prompts/{name}_nobody.yaml", named=False)
    path = tmp_path / "prompts.yaml"
    path.write_text(yaml.safe_dump({"prompts": [PROMPT | {"text": "a photo of a <subject>"}]}))
    with pytest.raises(LikenessError, match="nobody-lake holds a placeholder, it must name nobody"):
        read_prompts(str(path), named=False)
    path.write_text(yaml.safe_dump({"prompts": [PROMPT]}))
    with pytest.raises(LikenessError, match="must hold <subject> once"):
        read_prompts(str(path))


@pytest.fixture
def drifted(tmp_path: Path) -> Results:
    """A made-up evaluation with drift: features that are turned away from the base model's by known angles."""
    results = make_results(tmp_path, subjects=SIX)
    nobody, planned = results.nobody, results.protocol()
    measured = [card for card in cards() if card.name in ("clip_t", "kid")]
    prompts = (Prompt("nobody-lake", "scene", PROMPT["text"]), Prompt("nobody-hat", "mix", "a hat"))
    protocol = replace(planned, prompts=prompts, metrics=versions(measured))
    nobody.write_protocol(protocol)
    write_json(nobody.cards, [card.to_json() for card in measured])
    shutil.copy(results.galleries, nobody.galleries)
    for label, angle in ANGLES.items():
        entry = next(entry for entry in results.entries() if entry.label == label)
        nobody.entry(label).claim(entry)
        lines = []
        for request in protocol.requests:
            turned = angle + 0.01 * int(request.subject[1:]) * (angle > 0)
            record = {name: getattr(request, name) for name in ("subject", "prompt_id", "prompt_class", "sample")}
            record |= {"request_id": request.id, "image_sha256": "", "metric_versions": dict(protocol.metrics)}
            record |= {
                "scores": {"clip_t": 0.25 - angle / 10},
                "details": {"faces": 1, "tokens_cut": 0, "blank": False},
            }
            vector = np.float32([np.cos(turned), np.sin(turned)])
            lines.append(json_line(record | {"features": {"clip": encode_vector(vector)}}))
        (nobody.entry(label).root / "records.jsonl").write_text("".join(lines))
    return results


def test_it_is_the_distance_to_the_base_models_images(drifted: Results) -> None:
    board = board_of(drifted)
    found = {entry["label"]: entry["metrics"] for entry in board["entries"]}
    expected = np.mean([1 - np.cos(0.3 + 0.01 * i) for i in range(1, 7)])
    assert found["ours"]["drift"]["value"] == pytest.approx(expected, abs=1e-6)
    assert (
        found["ours"]["drift"]["low"] < expected < found["ours"]["drift"]["high"] and found["ours"]["drift"]["n"] == 6
    )
    assert found["prompt-only"]["drift"]["value"] == pytest.approx(0.0, abs=1e-6)
    assert found["real-photo"]["drift"]["value"] is None, "a photo answers no prompt"
    assert found["theirs"]["clip_t_nobody"]["value"] == pytest.approx(0.19)
    assert board["ties"]["drift"] == {"ours": 1, "theirs": 2}, "less drift is better"
    assert "drift ↓" in compare_entries(drifted, "ours", "theirs")
    card = board["metrics"]["drift"]
    assert card["group"] == "drift" and not card["higher_is_better"] and "prompts " in card["version"]


def test_without_it_nothing_changes(drifted: Results) -> None:
    with_drift = board_of(drifted)
    shutil.rmtree(drifted.nobody.root)
    board = board_of(drifted)
    assert "drift" not in board["metrics"]
    for name, ours in board["entries"][1]["metrics"].items():
        assert with_drift["entries"][1]["metrics"][name] == ours


def test_from_the_command_to_the_column(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = tmp_path / "nobody.yaml"
    prompts.write_text(yaml.safe_dump({"prompts": [PROMPT]}))
    output = tmp_path / "results"
    evaluate = ["--config", str(world.config), "--output", str(output), "--runs", f"a={world.run}", "--sweep", "0"]
    assert main(evaluate) == 0
    before = {path: path.read_bytes() for path in output.rglob("records.jsonl")}
    assert main([*evaluate, "--protocol.nobody", str(prompts)]) == 0
    assert all(path.read_bytes() == data for path, data in before.items()), "the board's own records stay"
    assert sorted(path.name for path in (output / "nobody/entries").iterdir()) == ["a", "prompt-only"]
    board = json.loads((output / "leaderboard.json").read_text())
    drift = {entry["label"]: entry["metrics"]["drift"] for entry in board["entries"]}
    assert (
        drift["a"]["value"] > 0 and drift["a"]["n"] == 2 and drift["prompt-only"]["value"] == pytest.approx(0, abs=1e-6)
    )
    assert main(["--verify", str(output)]) == 0
    capsys.readouterr()
    assert main(["--stage", "cards", "--output", str(output)]) == 0
    listed = capsys.readouterr().out
    assert "(drift, drift; lower is better" in listed and "(identity_at_prompt_0.95, summary" in listed
    prompts.write_text(yaml.safe_dump({"prompts": [PROMPT | {"text": "a hat"}]}))
    assert main([*evaluate, "--protocol.nobody", str(prompts)]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: ") and "nobody holds results of protocol" in line and "prompts changed" in line
