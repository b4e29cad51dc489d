"""Folders of LoRAs as entries: they answer as the run that trained them, cover everybody, and saw no held-out photo."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import evaluate
from contracts.entries import NamedFolder
from contracts.errors import LikenessError
from contracts.files import file_sha256
from datamodules.index import by_subject, held_out_of, load_photos, reference_of
from datamodules.sources import find_shards
from leaderboard.loras.folder import open_folder
from leaderboard.loras.module import LorasOn
from leaderboard.plan.entries import find_lora
from leaderboard.results.folder import Results
from leaderboard.results.trained_photos import trained_on
from networks.sampler import SamplingSettings
from tests.helpers.batches import request_batch
from tests.helpers.loras import LAYOUTS, map_line, write_lora, write_map
from tests.leaderboard.conftest import World
from tests.leaderboard.test_enrolled_runs import enrol
from tests.leaderboard.test_several_references import error, evaluated, images_of
from tools.export_subject import export_subject

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
SUBJECTS = ("s0018", "s0019")


@pytest.fixture(scope="module")
def photos(world: World, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, list]:
    shards = find_shards(str(world.root / "dataset"))
    return by_subject(load_photos(shards, tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def trained(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run of DreamBooth-LoRA whose changes show, and the folder of its subjects' files."""
    root = tmp_path_factory.mktemp("dreambooth")
    settings = {"class_images": 2, "class_steps": 2, "class_guidance": 2.0, "learning_rate": 0.05, "alpha": 8.0}
    run = enrol(
        world,
        root / "run",
        list(SUBJECTS),
        model="lightning_modules.DreamBoothLoRA",
        **{f"model__{name}": value for name, value in settings.items()},
    )
    for subject in SUBJECTS:
        export_subject(run, subject, root / "files" / f"{subject}.safetensors")
    return run, root / "files"


@pytest.fixture
def theirs(world: World, tmp_path: Path, photos: Mapping[str, list]) -> Path:
    """LoRAs of peft's, with a map."""
    folder = tmp_path / "theirs"
    for number in range(len(SUBJECTS)):
        write_lora(folder / f"x{number}", world.root / "base", "peft", seed=number)
    write_map(folder, *(map_line(s, f"x{i}", photos=reference_of(photos[s]).sha256) for i, s in enumerate(SUBJECTS)))
    return folder


def planned(world: World, output: Path, *loras: object, more: tuple[str, ...] = ()) -> int:
    return evaluated(world, output, "--lora", *map(str, loras), "--stage=plan", *more)


def pixels(images: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.int16]:
    return np.stack([images[name] for name in sorted(images)]).astype(np.int16)


def test_exported_files_answer_as_the_run_does(
    world: World, trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, files = trained
    results = tmp_path / "results"
    assert evaluated(world, results, f"--runs=run={run}", "--lora", f"files={files}") == 0
    ours, found = pixels(images_of(results, "run")), pixels(images_of(results, "files"))
    base = pixels(images_of(results, "prompt-only"))
    assert np.abs(ours - found).max() <= 1 and np.abs(ours - base).max() > 3
    entry = Results(results).entry("files").known()
    assert entry is not None and entry.lora and len(trained_on(entry.manifest, files)) == 2
    assert entry.manifest["told"] == dict.fromkeys(SUBJECTS, "sks person")
    board = json.loads((results / "leaderboard.json").read_text())
    rows = {row["label"]: row for row in board["entries"]}
    assert rows["files"]["costs"]["trainable_parameters"] == rows["run"]["costs"]["trainable_parameters"]
    assert not [note for note in board["notes"] if "files" in note or "learnt from" in note]
    row = results / "entries" / "run" / "entry.json"
    about = json.loads(row.read_text())
    about["manifest"]["photos"]["s0018"] *= 2
    row.write_text(json.dumps(about))
    assert evaluate.main(["--stage=report", f"--output={results}"]) == 0
    assert "note: run learnt from 2 photos of a subject, protocol.references is 1" in capsys.readouterr().out
    assert evaluate.main(["--verify", str(results)]) == 0
    capsys.readouterr()
    # Again: nothing is generated. With another file under the label it is refused.
    assert evaluated(world, results, "--lora", f"files={files}", "--stage=generate") == 0
    assert "files: 0 images generated" in capsys.readouterr().out
    changed = tmp_path / "changed"
    changed.mkdir()
    for subject, other in zip(SUBJECTS, reversed(SUBJECTS), strict=True):
        (changed / f"{subject}.safetensors").write_bytes((files / f"{other}.safetensors").read_bytes())
    assert evaluated(world, results, "--lora", f"files={changed}", "--stage=generate") == 2
    assert "holds images of other files than" in error(capsys)


def test_layouts_are_told_apart_and_who_says_nothing_is_marked(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for layout in LAYOUTS:
        for number, subject in enumerate(SUBJECTS):
            write_lora(tmp_path / layout.replace(" ", "-") / subject, world.root / "base", layout, seed=number)
        suffix = "" if layout == "peft" else ".safetensors"
        write_map(tmp_path / layout.replace(" ", "-"), *(map_line(s, s + suffix) for s in SUBJECTS))
    folders = [str(tmp_path / layout.replace(" ", "-")) for layout in LAYOUTS]
    assert evaluated(world, tmp_path / "results", "--lora", *folders, "--trainer.devices=2") == 0
    first, *others = (pixels(images_of(tmp_path / "results", Path(folder).name)) for folder in folders)
    assert all(np.abs(first - other).max() <= 1 for other in others)
    table = capsys.readouterr().out
    assert "kohya (training photos not said)" in table
    page = (tmp_path / "results" / "leaderboard.html").read_text()
    assert page.count('<span class="kind">training photos not said</span>') == len(LAYOUTS)
    assert "note: kohya does not say which photos of 2 of 2 subjects it was trained on: held-out photos may" in table


def test_all_subjects_are_covered_or_the_missing_ones_are_named(
    world: World, theirs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_map(theirs, map_line("s0018", "x0"))
    assert planned(world, tmp_path / "results", theirs) == 2
    said = error(capsys)
    assert "has no LoRA of 1 of 2 subjects (s0019): add them, or narrow the board for every row alike" in said
    assert said.endswith("with --subjects s0018") and not (tmp_path / "results").exists()
    assert planned(world, tmp_path / "results", theirs, more=("--subjects", "s0018")) == 0
    assert list(Results(tmp_path / "results").protocol().subjects) == ["s0018"]


def test_held_out_photos_are_refused_and_other_photos_are_noted(
    world: World, theirs: Path, tmp_path: Path, photos: Mapping[str, list], capsys: pytest.CaptureFixture[str]
) -> None:
    held_out = held_out_of(photos["s0019"])[0].sha256
    write_map(theirs, map_line("s0018", "x0"), map_line("s0019", "x1", photos=f"{'0' * 64} {held_out}"))
    assert planned(world, tmp_path / "results", theirs) == 2
    assert "was trained on held-out photos of s0019: train without them" in error(capsys)
    assert planned(world, tmp_path / "plan", theirs, more=("--subjects", "s0018")) == 0
    reference = file_sha256(tmp_path / "plan" / "references" / "s0018.png")
    capsys.readouterr()
    for hashes, noted in ((reference, False), (f"{reference} {'0' * 64}", True)):
        write_map(theirs, map_line("s0018", "x0", photos=hashes))
        assert planned(world, tmp_path / "plan", theirs, more=("--subjects", "s0018")) == 0
        out = capsys.readouterr().out
        assert ("theirs was trained on photos of s0018 that are none of the references" in out) is noted
        assert ("theirs learnt from 2 photos of a subject, protocol.references is 1" in out) is noted


def test_what_does_not_fit_is_told_in_one_list(
    world: World, theirs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (theirs / "bad.safetensors").write_bytes(b"?" * 50)
    write_map(theirs, map_line("s0018", "bad.safetensors"), map_line("s0019", "x1", trigger="<s1>"))
    assert planned(world, tmp_path / "results", theirs) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 2
    assert "is not a readable LoRA in safetensors" in lines[0]
    assert "the trigger word '<s1>' is not known to the base model's tokenizer" in lines[1]
    write_map(theirs, map_line("s0018", "x0", trigger=" ".join(["word"] * 80)), map_line("s0019", "x1"))
    assert planned(world, tmp_path / "results", theirs) == 2
    assert "cannot generate all prompts" in error(capsys)
    nobody = "--protocol.backbone=null"
    assert evaluated(world, tmp_path / "results", "--lora", str(theirs), nobody, "--stage=plan") == 2
    assert "--lora: a LoRA needs its base model, and protocol.backbone is null" in error(capsys)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["s1,x0,sks,person"], "line 2: it must hold a subject, a file, a trigger word, a noun and photos"),
        (["s1,x0,sks,person,,"], "line 2: it must hold a subject"),
        ([",x0,sks,person,"], "line 2: it must hold a subject"),
        (["s1,x0,,person,"], "line 2: '' is no trigger word"),
        (["s1,../x0,sks,person,"], "must name a file in or below"),
        (["s1,x7,sks,person,"], "line 2: there is no LoRA"),
        (["s1,x0,sks,person,", "s1,x1,sks,person,"], "line 3: subject s1 has a LoRA already, in line 2"),
        (["s1,x0,sks,person,abc"], "'abc' is no SHA-256 of a photo's file"),
        (['s1,"x0'], "is no CSV in UTF-8"),
    ],
)
def test_a_map_that_is_not_well_formed_is_one_line(theirs: Path, lines: list[str], said: str) -> None:
    write_map(theirs, *lines)
    with pytest.raises(LikenessError) as raised:
        open_folder("theirs", theirs)
    assert said in str(raised.value) and "\n" not in str(raised.value)


def test_a_folder_that_says_too_little_is_one_line(world: World, theirs: Path, tmp_path: Path) -> None:
    (theirs / "map.csv").write_text("file,trigger\n")
    for spoil, said in (
        (lambda: None, "map.csv must begin with the line subject,file,trigger,noun,photos"),
        ((theirs / "map.csv").unlink, "x0 does not say its trigger word: write .*map.csv with the line subject,file"),
    ):
        spoil()
        with pytest.raises(LikenessError, match=said):
            open_folder("theirs", theirs)
    with pytest.raises(LikenessError, match="cannot be read"):
        open_folder("theirs", tmp_path / "nowhere")
    with pytest.raises(LikenessError, match="holds no LoRA: call each by its subject"):
        open_folder("theirs", world.root / "dataset")
    (theirs / "away.safetensors").symlink_to(write_lora(tmp_path / "away", world.root / "base", "kohya", seed=0))
    write_map(theirs, map_line("s1", "away.safetensors"))
    with pytest.raises(LikenessError, match=r"leads out of .*, which is not followed"):
        open_folder("theirs", theirs)
    with pytest.raises(LikenessError, match="label 'a' is taken"):
        find_lora(NamedFolder("a", theirs), {"a"})


def test_one_file_of_several_subjects_and_its_strength(world: World, theirs: Path) -> None:
    """Trigger words tell them apart; without a noun it is the trigger alone; at strength 0 it is the base model."""
    write_map(theirs, map_line("s0000", "x0", trigger="ohwx"), map_line("s0001", "x0", trigger="sks", noun=""))
    folder = open_folder("theirs", theirs)
    words = {subject: lora.words("dog") for subject, lora in folder.loras.items()}
    assert words == {"s0000": "ohwx person", "s0001": "sks"}
    module, batch = LorasOn(str(world.root / "base"), folder, words), request_batch(2)
    module.sampling = SamplingSettings("ddim", steps=2, guidance=3.0)
    full = module.generate(batch)
    module.scale = 0.5
    half = module.generate(batch)
    module.scale = 0.0
    none = module.generate(batch)
    assert (full.int() - half.int()).abs().max() > 1 and (half.int() - none.int()).abs().max() > 1


def test_a_sweep_turns_the_strength(
    world: World, theirs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results, given = tmp_path / "results", ("--lora", f"a={theirs}", "--sweep")
    write_map(theirs, *(map_line(s, f"x{i}") for i, s in enumerate(SUBJECTS)))
    assert evaluated(world, results, *given, "0,1") == 0
    assert "does not say which photos" in capsys.readouterr().out
    base, full = (pixels(images_of(results, label)) for label in ("a@0", "a"))
    assert np.array_equal(base, pixels(images_of(results, "prompt-only"))), "strength 0 is the base model"
    assert evaluated(world, results, *given, "0,0.5") == 0
    out = capsys.readouterr().out
    assert "a@0: 0 images generated, 12 were there" in out and "a@0.5: 12 images generated" in out
    assert out.count("does not say which photos") == 1 and "under two labels" not in out
    half = pixels(images_of(results, "a@0.5"))
    assert np.abs(half - full).max() > 1 and np.abs(half - base).max() > 1
    row = next(r for r in json.loads((results / "leaderboard.json").read_text())["entries"] if r["label"] == "a")
    assert (row["sweep"]["knob"], row["sweep"]["own"]) == ("scale", 1.0)
    assert [point["value"] for point in row["sweep"]["points"]] == [0.0, 0.5, 1.0]
    assert evaluate.main(["--verify", str(results)]) == 0
    assert evaluated(world, results, "--lora", f"a={theirs}", "--stage=generate") == 0, "without a sweep it stays"
    assert Results(results).entry("a").known().knob == {"name": "scale", "value": 1.0}
    capsys.readouterr()
    for arguments, said in (
        ((*given, "0.5,-2"), "theirs: scale cannot be -2: a LoRA's strength is at least 0, the base model"),
        ((*given, "strong"), "'strong' is no number"),
        (("--sweep", "0.5"), "turns runs and LoRAs: give some with --runs or --lora"),
    ):
        assert evaluated(world, results, *arguments) == 2
        line = error(capsys)
        assert line.startswith("error: --sweep") and said in line
