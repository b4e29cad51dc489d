"""The tutorial's commands, run as they stand in ``docs/own_photos.md``: from a folder of photos to a leaderboard."""

import importlib
import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

import cv2
import pandas as pd
import pytest
from PIL import Image

from pocket.render.factors import draw_shot, draw_subject
from pocket.render.renderer import render
from tests.helpers.markdown import commands, read_page

ROOT = Path(__file__).parents[1]
SHORT = {
    "train": ["--data.enrolment.steps", "2", "--trainer.enable_progress_bar", "false"],
    "generate": ["--steps", "1", "--samples", "1"],
    "evaluate": ["--protocol.steps", "1", "--protocol.samples", "1"],
}
"""What shortens a command. Nothing else of it is changed."""
STEPS = ["curate", "train", "generate", "evaluate"]


def tutorial() -> list[list[str]]:
    """The commands of the page as words."""
    page = read_page(ROOT / "docs" / "own_photos.md")
    blocks = [block for block in page.blocks if block.language == "bash"]
    return [shlex.split(command.text) for block in blocks for command in commands(block)]


def run(words: Sequence[str], also: Sequence[str] = ()) -> None:
    """Run a command of the page in this process."""
    script = words[1].removesuffix(".py")
    assert importlib.import_module(script).main([*words[2:], *SHORT.get(script, []), *also]) == 0


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with what the commands name, in which they may write."""
    for name in ("configs", "pocket"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rendered_photos(folder: Path, subjects: int = 3, photos: int = 4) -> None:
    """Rendered portraits as photos that are larger than what is learnt from them."""
    for s in range(subjects):
        (folder / f"p{s + 1:02d}").mkdir(parents=True)
        for p in range(photos):
            pixels = render(
                draw_subject(f"own{s}"),
                draw_shot(f"own{s}-{p}", pose=(10.0 * p - 15, 0.0, 0.0), style="photo", accessories=False),
            ).image
            large = cv2.resize(pixels, (160, 160), interpolation=cv2.INTER_CUBIC)
            Image.fromarray(large).save(folder / f"p{s + 1:02d}" / f"{p}.png")


def test_from_a_folder_to_a_leaderboard(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rendered_photos(elsewhere / "photos")
    assert [words[1] for words in tutorial()] == [f"{step}.py" for step in STEPS]
    for words in tutorial():
        run(words)
    board = json.loads((elsewhere / "results" / "mine" / "leaderboard.json").read_text())
    kinds = {entry["label"]: entry["kind"] for entry in board["entries"]}
    methods = {"spotdiff": "method", "mine": "method"}
    assert kinds == {
        "real-photo": "ceiling", "reconstruction": "reconstruction", **methods, "prompt-only": "floor"
    }  # fmt: skip
    assert sorted(board["protocol"]["subjects"]) == ["p01", "p02", "p03"]
    assert len(list((elsewhere / "results" / "p01" / "images").glob("*/*.png"))) == 4
    assert (elsewhere / "data" / "mine" / "report.html").is_file()


@pytest.mark.skipif("LIKENESS_REAL" not in os.environ, reason="LIKENESS_REAL names no folder of real photos")
def test_the_same_on_real_photos(elsewhere: Path) -> None:
    """With a face pack for real faces in place of the pocket one; the page's other words stay."""
    real = Path(os.environ["LIKENESS_REAL"])
    (elsewhere / "photos").symlink_to(real / "people")
    faces = str(real / "faces_open_centred")
    judge = ["--judges.faces", str(real / "faces_open")]
    also = {"train": ["--data.enrolment.faces", faces, *judge], "evaluate": judge}
    for words in tutorial():
        step = words[1].removesuffix(".py")
        run([faces if word == "pocket/weights/faces_a" else word for word in words], also.get(step, ()))
    rows = pd.read_csv(elsewhere / "results" / "mine" / "leaderboard.csv").set_index("label")
    assert rows.loc["real-photo", "detection_rate"] > 0.9
    assert rows.loc["prompt-only", "identity_misses_zero"] < rows.loc["real-photo", "identity_misses_zero"]
