"""Every shipped YAML fits the command that it is written for; nothing is built."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from datamodules.spotdiff10k import SpotDiff10kDataModule
from evaluate import make_parser
from leaderboard.plan.prompts import read_prompts
from lightning_modules import PersonalisationModule
from tools.search.space import read_space
from train import TrainCLI

CONFIGS = Path(__file__).parents[1] / "configs"
METHODS = sorted([*CONFIGS.glob("*.yaml"), *CONFIGS.glob("sdxl/*.yaml"), *CONFIGS.glob("pocket/*.yaml")])
TRAINERS = sorted(CONFIGS.glob("trainer/*.yaml"))
EDITS = CONFIGS / "prompts" / "pocket_edits.yaml"
PROMPTS = [path for path in sorted(CONFIGS.glob("prompts/*.yaml")) if path != EDITS]
EVALUATIONS = sorted(CONFIGS.glob("evaluation/*.yaml"))
SPACES = sorted(CONFIGS.glob("search/*.yaml"))


class ParseOnly(TrainCLI):
    """The command line of ``train.py`` up to the point where it would load models."""

    def instantiate_classes(self) -> None:
        """Nothing is built."""


def parse(*arguments: str) -> Any:
    return ParseOnly(
        PersonalisationModule,
        SpotDiff10kDataModule,
        subclass_mode_model=True,
        run=False,
        save_config_callback=None,
        seed_everything_default=0,
        parser_kwargs={"parser_mode": "omegaconf+", "exit_on_error": False, "allow_abbrev": False},
        args=list(arguments),
    ).config


def test_every_configuration_is_one_of_a_kind() -> None:
    assert set(CONFIGS.rglob("*.yaml")) == {*METHODS, *TRAINERS, *EVALUATIONS, *PROMPTS, *SPACES, EDITS}
    assert METHODS and TRAINERS and EVALUATIONS
    assert [path.name for path in SPACES] == [path.name for path in METHODS if path.parent.name == "pocket"]


@pytest.mark.parametrize("path", METHODS, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_methods(path: Path) -> None:
    config = parse(f"--config={path}")
    assert config.data.backbone == config.model.init_args.backbone
    assert config.data.seed == config.seed_everything
    written = yaml.safe_load(path.read_text())
    assert config.trainer.max_steps == written["trainer"]["max_steps"]
    assert path.read_text().startswith("#"), "a configuration begins with what it is and how to run it"


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_what_a_search_may_try_are_settings_of_the_method(path: Path) -> None:
    config = yaml.safe_load((CONFIGS / "pocket" / path.name).read_text())
    space = read_space(path, config)
    assert len(space) == 2, "every method gets the same effort"
    assert path.read_text().startswith("#")


@pytest.mark.parametrize("path", TRAINERS, ids=lambda path: path.stem)
def test_trainers_go_on_top_of_a_method(path: Path) -> None:
    config = parse(f"--config={METHODS[0]}", f"--config={path}")
    for name, value in yaml.safe_load(path.read_text())["trainer"].items():
        assert config.trainer[name] == value


def test_the_command_line_is_stronger_than_the_file_and_interpolation_follows_it() -> None:
    config = parse(f"--config={METHODS[0]}", "--model.backbone=elsewhere", "--seed_everything=7")
    assert config.data.backbone == config.model.init_args.backbone == "elsewhere"
    assert config.data.seed == 7


@pytest.mark.parametrize("path", EVALUATIONS, ids=lambda path: path.stem)
def test_evaluations(path: Path) -> None:
    parsed = make_parser().parse_args([f"--config={path}", "--output=results"])
    for name, value in yaml.safe_load(path.read_text())["protocol"].items():
        assert getattr(parsed.protocol, name) == value


def words(prompt: str) -> str:
    """A prompt's text without its punctuation."""
    return " ".join(re.findall(r"[\w<>']+", prompt.lower()))


def test_no_method_is_tuned_on_a_prompt_that_it_is_tested_on() -> None:
    """Prompts of the pocket world test methods of the pocket world, all the others those of real base models."""
    tested: dict[bool, set[str]] = {True: set(), False: set()}
    for path in PROMPTS:
        found = read_prompts(str(path), named=not path.stem.endswith("nobody"), of_two=path.stem.endswith("pairs"))
        tested[path.stem.startswith("pocket")] |= {words(prompt.text) for prompt in found}
    assert all(tested.values())
    data = {path: yaml.safe_load(path.read_text())["data"] for path in METHODS}
    validated = {path: part.get("validation", {}).get("prompts", []) for path, part in data.items()}
    assert any(validated.values())
    for path, prompts in validated.items():
        assert not {words(prompt) for prompt in prompts} & tested[path.parent.name == "pocket"], path
