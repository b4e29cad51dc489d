"""Mistakes that the sources tell are found before anything heavy is imported."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser

import evaluate
import lightning_modules
from contracts.early_check import check_files, check_training
from contracts.errors import LikenessError
from contracts.settings import JudgeSettings
from contracts.signatures import find_class
from datamodules.batches.experts import ExpertStage
from datamodules.batches.faces import FaceStage, PersonStage
from datamodules.batches.pairs import Drops
from datamodules.batches.subjects import EnrolmentSettings
from datamodules.spotdiff10k import SpotDiff10kDataModule
from datamodules.validation import ValidationSettings

ROOT = Path(__file__).parents[2]
COMMAND = ROOT / "train.py"
CONFIG = f"--config={ROOT}/configs/pocket/spotdiff.yaml"
METHODS = [getattr(lightning_modules, name) for name in lightning_modules.__all__]
PARTS = [JudgeSettings, ExpertStage, FaceStage, PersonStage, Drops, EnrolmentSettings, ValidationSettings]

MISSPELT = {
    "model.orthogonality_wieght": "model.orthogonality_weight",
    "model.init_args.hiden": "model.hidden",
    "data.sourc": "data.source",
    "data.drops.identty": "data.drops.identity",
    "data.validation.prompt": "data.validation.prompts",
    "data.enrolment.face_clases": "data.enrolment.face_classes",
    "data.first_stage.init_args.stepz": "data.first_stage.steps",
    "judges.face": "judges.faces",
    "outptu": "output",
    "checkpoint_evry": "checkpoint_every",
    "trainer.max_step": "trainer.max_steps",
    "trainr.max_steps": "trainer",
    "sed_everything": "seed_everything",
}


@pytest.mark.parametrize("key", MISSPELT)
@pytest.mark.parametrize("place", ["option", "next word", "file", "text"])
def test_a_misspelt_key_is_found_and_the_right_one_named(key: str, place: str, tmp_path: Path) -> None:
    first, *rest = key.split(".")
    value: object = 1
    for name in reversed(rest):
        value = {name: value}
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({first: value}))
    given = {
        "option": [f"--{key}=1"],
        "next word": [f"--{key}", "1"],
        "file": ["--config", str(file)],
        "text": [f"--{first}={json.dumps(value) if rest else 1}"],
    }[place]
    with pytest.raises(LikenessError, match=rf"there is no setting .*; did you mean {MISSPELT[key]}\?$"):
        check_training([CONFIG, *given], COMMAND)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_every_setting_of_every_method_is_known(method: type) -> None:
    parser = LightningArgumentParser()
    parser.add_lightning_class_args(Trainer, "trainer")
    parser.add_lightning_class_args(SpotDiff10kDataModule, "data")
    parser.add_class_arguments(method, "model")
    keys = [action.dest for action in parser._actions if action.dest not in ("help", "trainer", "data", "model")]
    assert len(keys) > 60
    check_training([f"--model={method.__name__}", *(f"--{key}=1" for key in keys)], COMMAND)


@pytest.mark.parametrize("part", [*PARTS, *METHODS], ids=lambda part: part.__name__)
def test_the_source_says_what_the_class_says(part: type) -> None:
    source = find_class(f"{part.__module__}.{part.__name__}")
    assert source is not None
    taken = LightningArgumentParser().add_class_arguments(part, "part")
    assert {name.removeprefix("part.") for name in taken} == set(source.settings() or ())


@pytest.mark.parametrize("config", sorted((ROOT / "configs").glob("**/*.yaml")), ids=lambda path: path.stem)
def test_what_is_right_is_let_through(config: Path) -> None:
    if config.parent.name in ("prompts", "evaluation", "search"):
        check_files([f"--config={config}"])
        return
    more = [
        "--print_config",
        "--trainer.callbacks+=lightning.pytorch.callbacks.Timer",
        "--trainer.callbacks.duration=1",
    ]
    more += ["--optimizer", "torch.optim.SGD", "--optimizer.lr=0.1", "--seed_everything", "3", "--trainer.logger=false"]
    more += [
        "--model.help",
        "--data.features.anything.encoder=x",
        "--trainer.limit_val_batches",
        "-1",
        "--config",
        "nowhere",
    ]
    check_training([f"--config={config}", *more], COMMAND)


EVIL = "evil_module.Evil"
BY_PATH = {"class_path": EVIL}
HOSTILE = {
    "model": ["--model", EVIL],
    "model's class path": ["--model.class_path", EVIL],
    "nested": ["--model.backbone.class_path", EVIL],
    "deep": [f"--data={json.dumps({'features': {'a': [{'b': BY_PATH}]}})}"],
    "stage": ["--data.first_stage", EVIL],
    "drops": ["--data.drops.class_path", EVIL],
    "callback": [f"--trainer.callbacks+={EVIL}"],
    "callbacks": [f"--trainer.callbacks={json.dumps([BY_PATH])}"],
    "logger": ["--trainer.logger.class_path", EVIL],
    "plugins": [f"--trainer={json.dumps({'plugins': [BY_PATH]})}"],
    "judges": [f"--judges={json.dumps(BY_PATH)}"],
    "optimizer": ["--optimizer.class_path", EVIL],
    "help": ["--model.help", EVIL],
    "callback's help": [f"--trainer.callbacks.help={EVIL}"],
    "named in a file only": ["--config=named.yaml"],
    "looks like ours": ["--model=lightning_modules_evil.Evil"],
    "looks like torch": ["--model=torchevil.Evil"],
}


@pytest.mark.parametrize("way", HOSTILE)
def test_nothing_is_imported_that_was_not_named(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("evil_module", "lightning_modules_evil", "torchevil"):
        (tmp_path / f"{name}.py").write_text("open('ran', 'w')\nclass Evil: ...\n")
    (tmp_path / "named.yaml").write_text(f"methods: [evil_module]\nmodel: {{class_path: {EVIL}}}\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(LikenessError, match=r"[Ee]vil is not one of this project's classes, and nothing was imported"):
        check_training(HOSTILE[way], COMMAND)
    assert not (tmp_path / "ran").exists()
    named = [argument.replace("named.yaml", str(tmp_path / "named.yaml")) for argument in HOSTILE[way]]
    check_training([*named, "--methods", "evil_module", "lightning_modules_evil", "torchevil"], COMMAND)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("value", ["evil_module.Evil", '{"class_path": "evil_module.Evil"}', "evil.yaml"])
@pytest.mark.parametrize("key", ["protocol", "judges", "trainer", "protocol.prompts", "batch_size", "config"])
def test_an_evaluation_imports_no_class(
    tmp_path: Path, key: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("evil_module.py").write_text("open('ran', 'w')\nclass Evil: ...\n")
    Path("evil.yaml").write_text("class_path: evil_module.Evil\nprotocol: {class_path: evil_module.Evil}\n")
    config = f"--config={ROOT}/configs/evaluation/pocket.yaml"
    assert evaluate.main([config, f"--{key}={value}"]) == 2  # without --output, if nothing else
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ")
    assert not Path("ran").exists()


WITHOUT_TORCH = """
import runpy, sys, time
sys.argv = ["train.py", *sys.argv[1:]]
try:
    runpy.run_path("train.py", run_name="__main__")
except SystemExit as end:
    heavy = {"torch", "lightning", "numpy", "jsonargparse"} & sys.modules.keys()
    print(end.code, sorted(heavy), round(time.process_time(), 2))
"""


@pytest.mark.parametrize(
    "mistake", ["--model.hiden=3", "--trainer.max_step=3", f"--model={EVIL}", "--config=bomb.yaml"]
)
def test_it_takes_no_heavy_import(mistake: str, tmp_path: Path) -> None:
    (tmp_path / "bomb.yaml").write_text("[" * 1000)
    given = [CONFIG, mistake.replace("bomb.yaml", str(tmp_path / "bomb.yaml"))]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *given], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    code, heavy, seconds = done.stdout.split(maxsplit=2)
    assert (code, heavy) == ("2", "[]") and float(seconds) < 1, done.stdout
    assert done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1
