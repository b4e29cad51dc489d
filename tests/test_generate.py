"""The command line of ``generate.py``: one line for every mistake, and each shipped method by one command."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import evaluate
from generate import main, make_parser
from pocket.models.paths import WEIGHTS
from pocket.render.dataset import Grid, rows_of
from pocket.tiny.components import tiny_dataset
from tests.helpers.markdown import read_page

ADAPTERS = WEIGHTS / "adapters"
RUN = str(ADAPTERS / "spotdiff")
PROMPT = "a photo of a <subject>, on a beach"
FEW = ["--steps=1", "--samples=1"]


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A face of the pocket world in a file by itself."""
    file = tmp_path_factory.mktemp("photos") / "me.png"
    file.write_bytes(rows_of(230, Grid())[0]["image"]["bytes"])
    return file


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--stpes=3"], ["stpes", "did you mean steps?"]),
        (["--steps=many"], ["steps", "many"]),
        (["--prompts", "a photo of me"], ["--prompts", "'a photo of me' must hold <subject> once"]),
        (["--prompts", "a <subject>, a <subject> and a <subject>"], ["must hold <subject> once, or twice for two"]),
        (["--prompts", "a <subject> and a <subject>"], ["shows two subjects and is for 1 of those given: give two"]),
        (["--prompts", "nowhere.yaml"], ["nowhere.yaml"]),
        (["--prompts", "a <subject> and a <nobody>"], ["--prompts", "<nobody> names no subject"]),
        (["--photo", "@/nowhere.jpg"], ["--photo @/nowhere.jpg cannot be read (No such file or directory)"]),
        (["--photo", "@/text.jpg"], ["--photo @/text.jpg is no readable", "image"]),
        (["--photo", "@/empty"], ["--photo @/empty holds no photo: none ends in .jpg"]),
        (["--photo", "@/people"], ["--photo @/people holds no photo: give the folder of each subject by itself"]),
        (["--photo", "@/damaged"], ["no photo of 2 can be read: --photo @/damaged/1.jpg is no readable"]),
        (["--photo", "<b>=@/me.png"], ["'<b>' is no class noun"]),
        (["--photo", "@/me.png", "@/twin.png"], ["--photo @/me.png is given twice"]),
        (["--photo"], ["--photo"]),
        (["--subject", "s0001", "--dataset", "nowhere"], ["dataset 'nowhere' is missing"]),
        (["--run", "nowhere"], ["--run: there is no folder 'nowhere'"]),
        (["--run", RUN, RUN], ["--run: label 'spotdiff' is taken"]),
        (["--samples=0"], ["--samples is 0"]),
        (["--set", "scale"], ["--set 'scale': give NAME=VALUE"]),
        (["--set", "scale=[1"], ["--set 'scale=[1': give NAME=VALUE"]),
        (["--set", "kepe_pose=1"], ["SpotDiff", "has no argument 'kepe_pose'"]),
        (["--set", "scale=much"], ["SpotDiff", "takes float as 'scale', not 'much'"]),
        (["--set", "scale=null"], ["SpotDiff", "takes float as 'scale', not None"]),
        (["--set", "orthogonality=some"], ["SpotDiff", "'orthogonality', not 'some'"]),
        (["--set", "pose_expert=2"], ["SpotDiff", "takes bool as 'pose_expert', not 2"]),
        (["--enrol_steps=0"], ["--enrol_steps is 0"]),
        (["--sampler=euler"], ["sampler 'euler'"]),
        (["--guidance=1", "--negative_prompt=blurred"], ["guidance", "negative prompt"]),
        (["--device=abacus"], ["--device", "abacus"]),
        (["--backbone=nowhere"], ["nowhere"]),
        (["--output=@/theirs"], ["--output @/theirs holds notes.txt", "take another --output"]),
        (["--output=@/text.jpg/out"], ["text.jpg", "Not a directory"]),
        (["--output=@/text.jpg"], ["--output @/text.jpg is no folder"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_is_one_line_and_nothing_is_written(
    arguments: list[str],
    words: list[str],
    photo: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """``@`` is the folder with the photos."""
    for folder in ("empty", "people/anna", "damaged", "theirs"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("text.jpg", "damaged/1.jpg", "damaged/2.png", "theirs/notes.txt", "empty/read.me"):
        (tmp_path / name).write_text("no image")
    for name in ("me.png", "twin.png"):
        shutil.copy(photo, tmp_path / name)
    before = sorted(tmp_path.rglob("*"))
    base = {"--run": [RUN], "--photo": ["@/me.png"], "--prompts": [PROMPT], "--output": ["@/out"]}
    given = [word for option, values in base.items() if option not in arguments for word in (option, *values)]
    assert main([word.replace("@", str(tmp_path)) for word in (*given, *FEW, *arguments)]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert all(word.replace("@", str(tmp_path)) in line for word in words), line
    assert sorted(tmp_path.rglob("*")) == before


def test_a_mistake_is_found_before_anything_heavy_is_loaded() -> None:
    code = "import sys, generate; code = generate.main(['--outptu', 'x']); print(code, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "False"]


def test_somebody_must_be_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--run", RUN, "--prompts", PROMPT, "--output", str(tmp_path / "out")]) == 2
    assert "nobody to generate: give --photo FILE, or --subject NAME" in capsys.readouterr().err


def test_the_options_have_the_defaults_of_an_evaluation() -> None:
    from contracts.settings import ProtocolSettings

    given = make_parser().parse_args(["--run", "x", "--prompts", PROMPT, "--output", "x"])
    defaults = ProtocolSettings(prompts="", backbone="", resolution=64)
    for name in ("sampler", "steps", "guidance", "seed", "negative_prompt", "dataset"):
        assert given[name] == getattr(defaults, name)


@pytest.mark.parametrize("method", ["spotdiff", "pidiff", "ip_adapter", "sefi_ide"])
def test_each_shipped_method_generates_ones_own_photo(
    method: str, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path / "cache"))
    given = [f"--run={ADAPTERS / method}", f"--photo={photo}", f"--prompts={PROMPT}", f"--output={tmp_path / 'out'}"]
    assert main([*given, *FEW, "--enrol_steps=2"]) == 0
    (row,) = map(json.loads, (tmp_path / "out" / "images.jsonl").read_text().splitlines())
    with Image.open(tmp_path / "out" / row.pop("file")) as image:
        assert json.loads(image.info["Likeness"]) == row
        assert np.asarray(image).shape == (64, 64, 3) and np.asarray(image).std() > 10
    assert row["synthetic"] is True and row["prompt"] == PROMPT and row["steps"] == 1
    assert ("enrolment" in row) == (method == "sefi_ide") and ("reference" in row) == (method != "sefi_ide")
    assert (tmp_path / "out" / "contact_sheet.png").is_file()


def test_the_ten_lines_of_the_page_run(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(__file__).parents[1]
    (code,) = [block.text for block in read_page(root / "docs" / "generate.md").blocks if block.language == "python"]
    assert len(code.splitlines()) == 10
    shutil.copy(photo, tmp_path / "me.jpg")
    (tmp_path / "pocket").symlink_to(root / "pocket")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "docs/generate.md", "exec"), {})
    printed = [line.split(" ", 1) for line in capsys.readouterr().out.splitlines() if line.startswith("results/me/")]
    assert len(printed) == 4
    assert all(Path(file).is_file() and prompt == PROMPT for file, prompt in printed)


def test_a_subject_of_the_pocket_world_looks_as_in_an_evaluation(tmp_path: Path) -> None:
    """With every shipped encoder."""
    dataset = tiny_dataset(tmp_path / "dataset")
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text(yaml.safe_dump({"prompts": [{"id": "beach", "class": "scene", "text": PROMPT}]}))
    runs = [str(ADAPTERS / method) for method in ("spotdiff", "pidiff", "ip_adapter")]
    protocol = {"dataset": dataset, "prompts": prompts, "subjects": 2, "samples": 1, "steps": 2}
    given = [f"--protocol.{name}={value}" for name, value in protocol.items()]
    results = tmp_path / "results"
    config = ["--config=configs/evaluation/pocket.yaml", "--stage=generate", f"--output={results}"]
    assert evaluate.main([*config, *given, "--runs", *runs]) == 0
    who = [f"--dataset={dataset}", "--subject", "s0018", "s0019", f"--prompts={prompts}"]
    assert main(["--run", *runs, *who, "--samples=1", "--steps=2", f"--output={tmp_path / 'out'}"]) == 0
    files = sorted((tmp_path / "out" / "images").rglob("*.png"))
    assert len(files) == 6
    for file in files:
        in_results = results / "entries" / file.parent.name / "images" / file.name
        assert np.array_equal(np.asarray(Image.open(file)), np.asarray(Image.open(in_results)))
