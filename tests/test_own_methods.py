"""A method that lies outside the project: named on the command line it is trained and evaluated, otherwise refused."""

from pathlib import Path

import pytest
import yaml

import evaluate
import generate
import train
from contracts import method_modules
from contracts.settings import ProcessSettings
from leaderboard.processes import launch
from lightning_modules.run import Run
from pocket.tiny.components import SIDE
from pocket.tiny.world import TinyWorld
from tests.helpers.distributed import count_who_know_methods
from tests.helpers.enrolment import NAMES

MODULE = """
from pathlib import Path
from lightning_modules.spotdiff import SpotDiff

Path(__file__).with_name("imported").touch()


class Warm(SpotDiff):
    \"\"\"SpotDiff under another name.\"\"\"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the package of a user lies; in this process nothing of it was named yet."""
    package = tmp_path / "their_methods"
    package.mkdir()
    (package / "warm.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(method_modules, "_named", [])
    return tmp_path


@pytest.mark.parametrize(
    "way",
    [
        ["--model=their_methods.warm.Warm"],
        ["--model.class_path=their_methods.warm.Warm"],
        ["--config=their.yaml"],
        ["--model.backbone.class_path=their_methods.warm.Warm"],
        ["--judges.class_path=their_methods.warm.Warm"],
        ["--trainer.callbacks+=their_methods.warm.Warm"],
        ["--model.help=their_methods.warm.Warm"],
    ],
    ids=["name", "class path", "file", "argument", "judges", "callback", "help"],
)
def test_what_was_not_named_is_refused_before_it_is_imported(
    folder: Path,
    tiny_world: TinyWorld,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    way: list[str],
) -> None:
    monkeypatch.chdir(folder)
    Path("their.yaml").write_text("methods: [their_methods.warm]\nmodel: {class_path: their_methods.warm.Warm}\n")
    given = tiny_world.arguments(folder / "run")
    assert train.main([*given, *way]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: their_methods.warm.Warm is not one of this project's classes")
    assert line.endswith("name its module: --methods their_methods.warm")
    assert not (folder / "their_methods" / "imported").exists()


def test_methods_of_the_project_need_no_naming(
    tiny_world: TinyWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = tiny_world.arguments(tmp_path / "run", data__source=tmp_path / "nowhere")
    for name in ("SpotDiff", "lightning_modules.SpotDiff", "lightning_modules.spotdiff.SpotDiff"):
        others = [argument for argument in given if not argument.startswith("--model=")]
        assert train.main([f"--model={name}", *others]) == 2
        assert "nowhere' is missing" in capsys.readouterr().err.splitlines()[-1]


def evaluation(world: TinyWorld, folder: Path) -> list[str]:
    """Arguments of ``evaluate.py`` for one subject, one prompt and one sample."""
    prompts = folder / "prompts.yaml"
    prompts.write_text(
        yaml.safe_dump({"prompts": [{"id": "plain", "class": "scene", "text": "a photo of a <subject>"}]})
    )
    protocol = {
        "prompts": str(prompts),
        "dataset": str(world.dataset),
        "subjects": 1,
        "samples": 1,
        "backbone": str(world.base),
        "resolution": SIDE,
        "steps": 2,
    }
    judges = {"faces": str(world.faces), "clip": str(world.clip)}
    config = folder / "evaluation.yaml"
    config.write_text(yaml.safe_dump({"protocol": protocol, "judges": judges}))
    return [f"--config={config}", f"--runs=theirs={folder / 'run'}", f"--output={folder / 'results'}"]


@pytest.mark.slow
def test_a_named_method_is_trained_and_evaluated_in_two_processes(
    folder: Path, tiny_world: TinyWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    named = "--methods=their_methods.warm"
    settings = {"model": "Warm", "trainer.devices": 2, "trainer.strategy": "ddp_fork_find_unused_parameters_true"}
    settings |= {"trainer.max_steps": 1, "data.first_stage": "null"}
    assert train.main([named, *tiny_world.arguments(folder / "run", **settings)]) == 0
    run = Run(folder / "run")
    assert run.class_path == "their_methods.warm.Warm" and "methods" not in run.config
    assert run.manifest["method"] == "Warm" and run.manifest["processes"] == 2

    given = evaluation(tiny_world, folder)
    method_modules._named.clear()
    assert evaluate.main(given) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("name its module: --methods their_methods.warm")

    assert evaluate.main([named, *given, "--trainer.accelerator=cpu", "--trainer.devices=2"]) == 0
    assert "| theirs" in capsys.readouterr().out

    who = [f"--run=theirs={folder / 'run'}", f"--dataset={tiny_world.dataset}", f"--subject={NAMES[0]}"]
    given = [*who, "--prompts=a photo of a <subject>", "--samples=1", "--steps=2", f"--output={folder / 'images'}"]
    method_modules._named.clear()
    assert generate.main(given) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("name its module: --methods their_methods.warm")
    assert generate.main([named, *given]) == 0
    assert len(list((folder / "images" / "images" / "theirs").glob("*.png"))) == 1


@pytest.mark.slow
def test_processes_that_are_not_forked_know_the_methods_too(folder: Path) -> None:
    method_modules.import_methods(["their_methods.warm"])
    settings = ProcessSettings(devices=2, accelerator="cpu", strategy="ddp_spawn")
    assert launch(settings, count_who_know_methods) == 2
