"""``python -m tools.search``."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from torch.utils.tensorboard import SummaryWriter

import train
from contracts.errors import LikenessError
from contracts.search import Search, Trial, search_facts, setting
from leaderboard.report.notes import on_tuning
from pocket.tiny.world import TinyWorld
from tools.search import __main__ as tool
from tools.search import short, trials
from tools.search.short import shorten
from tools.search.space import distribution, read_space

CONFIG = {
    "model": {"class_path": "lightning_modules.SpotDiff", "init_args": {"learning_rate": 0.1}},
    "data": {
        "validation": {"prompts": ["a <subject>"], "subjects": 2},
        "first_stage": {"class_path": "x", "init_args": {"steps": 60}},
        "enrolment": None,
    },
    "trainer": {"max_steps": 120},
    "judges": {"faces": "x"},
}
TRIED = Trial({"model.learning_rate": 0.1}, {10: 0.5, 20: 0.7}, "complete")


@pytest.fixture
def searched() -> Search:
    worse = Trial({"model.learning_rate": 0.3}, {10: 0.6}, "pruned")
    space = {"model.learning_rate": {"low": 0.01, "high": 1.0, "log": True}}
    return Search(
        {}, space, "identity x fit", 3, 20, 8, (worse, TRIED, Trial({"model.learning_rate": 1.0}, {}, "failed"))
    )


def test_a_trial_is_a_sixth_of_the_training_on_eight_subjects() -> None:
    found = shorten(CONFIG)
    assert (found.steps, found.subjects) == (20, 8)
    wanted = {"--trainer.max_steps=20", "--data.first_stage.init_args.steps=10", "--data.validation.subjects=8"}
    assert wanted | {"--trainer.val_check_interval=10"} <= set(found.arguments)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({**CONFIG, "judges": None}, "needs a validation"),
        ({**CONFIG, "trainer": {"max_steps": -1}}, "needs trainer.max_steps"),
        ({**CONFIG, "trainer": {"max_steps": 11}}, "too few to be judged half-way"),
    ],
)
def test_trainings_that_cannot_be_shortened_are_refused(config: dict, said: str) -> None:
    with pytest.raises(LikenessError, match=said):
        shorten(config)


def test_optimisers_are_searched_on_validation_subjects(tiny_world: TinyWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(short, "SUBJECTS", 1)
    enrolment = {"steps": 60, "at_once": 16}
    data = {**CONFIG["data"], "source": str(tiny_world.dataset), "cache_dir": str(tiny_world.cache)}
    data |= {"enrolment": enrolment, "validation": {"prompts": ["a <subject>"], "subjects": 1}}
    found = shorten({**CONFIG, "data": data})
    subjects = next(word for word in found.arguments if word.startswith("--data.subjects="))
    splits = {
        photo.subject_id: photo.split
        for photo in short.load_photos(short.find_shards(data["source"]), tiny_world.cache)
    }
    (subject,) = yaml.safe_load(subjects.partition("=")[2])
    assert splits[subject] == "val" and "--data.enrolment.steps=10" in found.arguments
    data["validation"]["subjects"] = 99
    with pytest.raises(LikenessError, match="a search needs 99"):
        shorten({**CONFIG, "data": data})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no keys"),
        ("model.learning_rat: [1, 2]", "no setting of this configuration"),
        ("model.learning_rate: 3", "give a list"),
        ("model.learning_rate: {low: 2, high: 1}", "model.learning_rate: "),
        ("model.learning_rate: {low: 0.0, high: 1.0, log: true}", "model.learning_rate: "),
        ("model.learning_rate: {low: 1, hihg: 2}", "give a list"),
    ],
)
def test_spaces_that_are_none_are_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(text)
    with pytest.raises(LikenessError, match=said):
        read_space(tmp_path / "space.yaml", CONFIG)


def test_a_key_of_a_class_leaves_its_arguments_name_out() -> None:
    assert setting(CONFIG, "model.learning_rate") == 0.1
    assert setting(CONFIG, "data.first_stage.steps") == 60
    assert setting(CONFIG, "data.enrolment.steps") is None


def test_what_is_found_is_likeness_times_fit(tmp_path: Path) -> None:
    assert trials.found(tmp_path) == ("", {})
    with SummaryWriter(str(tmp_path / "tensorboard")) as board:
        for step, alike, fit in ((9, 0.5, 0.5), (19, -0.1, 0.5), (29, 0.5, 0.6)):
            board.add_scalar("val/identity_misses_zero", alike, step)
            board.add_scalar("val/clip_t", fit, step)
    measure, values = trials.found(tmp_path)
    assert measure == "identity_misses_zero x clip_t"
    assert values == pytest.approx({10: 0.25, 20: 0.0, 30: 0.3})


def test_a_bad_trial_is_pruned_and_the_search_goes_on_as_it_began(
    searched: Search, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    good = tuple(replace(TRIED, settings={"model.learning_rate": rate}) for rate in (0.02, 0.04, 0.08, 0.16))
    asked: list[list[str]] = []

    def short_training(arguments: list[str], run: Path, report: trials.Callable) -> trials.Ended:
        asked.append(arguments)
        assert report(10, 0.4), "below the median of the four"
        assert not report(20, 0.1), "at the end there is nothing to save"
        return trials.Ended({10: 0.4}, "pruned", "")

    monkeypatch.setattr(tool, "train", short_training)
    for _ in range(2):
        found = tool._with_trial(replace(searched, trials=good), 4, ["--x"], tmp_path)
    assert asked[0] == asked[1], "a number's trial is the same again"
    assert found.trials[-1].state == "pruned" and found.measure == searched.measure
    rate = found.trials[-1].settings["model.learning_rate"]
    assert asked[0] == ["--x", f"--model.learning_rate={rate}"]
    assert 0.01 <= rate <= 1.0 and float(f"{rate:.3g}") == rate
    assert distribution("x", [1, 2]).choices == (1, 2)  # type: ignore[attr-defined]


def test_a_run_says_which_search_it_stands_on(searched: Search, tmp_path: Path) -> None:
    file = tmp_path / "search.json"
    searched.write(file)
    assert Search.read(file) == searched
    facts = search_facts(file, CONFIG)
    assert (facts["trials"], facts["pruned"], facts["failed"], facts["value"]) == (3, 1, 1, 0.7)
    other = {**CONFIG, "model": {"class_path": "x", "init_args": {"learning_rate": 0.2}}}
    with pytest.raises(LikenessError, match=r"has model.learning_rate 0.1, here it is 0.2"):
        search_facts(file, other)
    replace(searched, trials=searched.trials[:1]).write(file)
    with pytest.raises(LikenessError, match="has 1 of 3 trials: finish it"):
        search_facts(file, CONFIG)
    file.write_text('{"trials": 3}')
    with pytest.raises(LikenessError, match=r"no search.json"):
        search_facts(file, CONFIG)
    notes = list(on_tuning({"a": {"search": facts}, "b": {"search": None}, "c": {"search": None}, "old": {}}))
    assert notes == [
        "settings of a were chosen by a search: 3 trials of 20 steps, 8 validation subjects",
        "settings of b, c were tuned by hand",
    ]


@pytest.mark.slow
def test_from_a_space_to_a_run(
    tiny_world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A search of one trial, and a training with what it found."""
    monkeypatch.setattr(tool, "TRIALS", 1)
    monkeypatch.setattr(short, "SUBJECTS", 1)
    judges = {"judges.faces": tiny_world.faces, "judges.clip": tiny_world.clip}
    settings = {
        "trainer.max_steps": 24,
        "data.first_stage": "null",
        "data.validation.prompts": ["a <subject>"],
        **judges,
    }
    given = tiny_world.arguments(tmp_path / "unused", **settings)
    given = [word for word in given if not word.startswith(("--output=", "--data.validation.subjects="))]
    config = tmp_path / "config.yaml"
    config.write_text("seed_everything: 3\n")
    space = tmp_path / "space.yaml"
    space.write_text("model.learning_rate: {low: 0.001, high: 0.01, log: true}\n")
    words = ["--config", str(config), "--space", str(space), "--output", str(tmp_path / "search"), "--", *given]
    assert tool.main(words) == 0
    told = capfd.readouterr().out
    assert "best" in told and "identity_misses_zero x clip_t" in told
    found = json.loads((tmp_path / "search" / "search.json").read_text())
    assert [sorted(map(int, trial["values"])) for trial in found["trials"]] == [[2, 4]]
    seen = found["config"]
    monkeypatch.setattr(tool, "resolved", lambda arguments: {**seen, "seed_everything": 4 if "--x" in arguments else 3})
    assert tool.main(words) == 0, "what is through is not done again"
    best = ["--config", str(config), "--config", str(tmp_path / "search" / "best.yaml")]
    kept = [word for word in given if not word.startswith("--model.learning_rate")]
    assert train.main([*best, f"--output={tmp_path / 'run'}", *kept]) == 0
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert (manifest["search"]["trials"], manifest["search"]["steps"]) == (1, 4)
    assert tool.main([*words, "--x"]) == 2
    assert "holds a search of other settings" in capfd.readouterr().err
