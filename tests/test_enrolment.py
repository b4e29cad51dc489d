"""Enrolling subjects with ``train.py`` end to end: alone and together, in groups, in two processes, interrupted."""

import hashlib
import io
import json
import os
import shlex
import signal
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.plugins import DoublePrecision
from PIL import Image

import train
from contracts.batch import SubjectBatch
from contracts.errors import LikenessError
from datamodules.schema import features
from lightning_modules import per_subject
from lightning_modules.run import Run
from lightning_modules.sefi_ide import SefiIDE
from networks.clip_judge import ClipJudge
from networks.subject_tensors import VECTORS, missing_subjects
from performance.faults.inject import fault
from pocket.render.dataset import rows_of
from pocket.tiny.components import tiny_base
from pocket.tiny.world import GRID, TEST, TRAINING, TinyWorld
from tests.helpers.batches import request_batch
from tests.helpers.enrolment import NAMES, STEPS, enrol, vectors
from training import trainer_settings

LAST = NAMES[-1]
ROUNDING = 0.05 + 3 * 0.005  # a run's seconds have one decimal, a subject's have two


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor], within: float = 1e-5) -> None:
    for name, value in first.items():
        torch.testing.assert_close(
            value, second[name], rtol=0, atol=within, msg=lambda text, name=name: f"{name} {text}"
        )


@pytest.fixture(scope="module")
def together(tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All three test subjects at once."""
    return enrol(tiny_world, tmp_path_factory.mktemp("runs") / "together")


@pytest.fixture(scope="module")
def alone(tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last of them on its own."""
    return enrol(tiny_world, tmp_path_factory.mktemp("runs") / "alone", [LAST])


def test_all_test_subjects_are_enrolled_and_nothing_else_is_kept(together: Path, tiny_world: TinyWorld) -> None:
    found = vectors(together)
    assert tuple(found) == NAMES
    assert all(value.shape == (5, 2, 1, 32) and value.dtype == torch.float32 for value in found.values())
    manifest = json.loads((together / "manifest.json").read_text())
    assert manifest["subjects"] == manifest["subjects_at_once"] == 3
    assert manifest["steps"] == STEPS
    assert manifest["trainable_parameters"] == 5 * 2 * 32
    assert 0 < 3 * manifest["enrol_seconds"] <= manifest["seconds"] + ROUNDING
    assert [timing["at_once"] for timing in manifest["enrolment"].values()] == [3, 3, 3]
    seconds = {timing["seconds"] for timing in manifest["enrolment"].values()}
    assert len(seconds) == 1 and seconds.pop() == pytest.approx(3 * manifest["enrol_seconds"], abs=0.03)


def by_decay(module: SefiIDE, noun: torch.Tensor) -> float:
    """How far weight decay alone moves a vector away from its class noun, at most."""
    return STEPS * module.learning_rate * module.weight_decay * float(noun.norm())


def test_every_subject_has_left_its_class_noun_at_every_stage(together: Path) -> None:
    module = Run(together).load()
    assert isinstance(module, SefiIDE)
    noun = module.noun_embedding("person")
    for name, value in vectors(together).items():
        distance = (value - noun).norm(dim=-1)
        assert distance.shape == (5, 2, 1) and distance.min() > 20 * by_decay(module, noun), name


@pytest.mark.parametrize(
    "more",
    [{}, {"model__tokens": "module", "model__learning_rate": 1e-3}, {"model__tokens_per_subject": 3}],
    ids=["free", "module", "three tokens"],
)
def test_a_subject_does_not_notice_its_company(
    more: dict[str, object], together: Path, alone: Path, tiny_world: TinyWorld, tmp_path: Path
) -> None:
    if more:
        together, alone = (
            enrol(tiny_world, tmp_path / "all", **more),
            enrol(tiny_world, tmp_path / "one", [LAST], **more),
        )
    assert_same(vectors(alone), vectors(together))
    first, second = vectors(together)[NAMES[0]], vectors(together)[NAMES[1]]
    assert (first - second).abs().max() > 1e-3, "subjects differ from one another"


@pytest.mark.parametrize("tokens", ["free", "module"])
def test_subjects_are_independent_in_double_precision(
    tokens: str, tiny_world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One subject alone and among four, over 60 steps with the attention loss and clipping at work.

    Sums in another order round otherwise, and Adam divides by gradients that may be hardly above the rounding: in
    float32 the runs drift apart over hundreds of steps without a subject having noticed another one. In float64 a
    difference below 1e-10 leaves room for rounding and for nothing else. The adapter file is float32, the checkpoint
    is not.
    """

    def double(_: DoublePrecision, batch: SubjectBatch) -> SubjectBatch:
        return replace(batch, **{name: getattr(batch, name).double() for name in ("moments", "latent_noise", "noise")})

    monkeypatch.setattr(DoublePrecision, "convert_input", double)  # Lightning's cannot change a frozen dataclass
    monkeypatch.setitem(trainer_settings._SPELLINGS, "64-true", len(trainer_settings.PRECISIONS))
    further = str(rows_of(TRAINING[0], GRID)[0]["subject_id"])
    more = {"trainer__precision": "64-true", "model__tokens": tokens, "data__enrolment__steps": 60}
    more |= {"checkpoint_every": 60}
    found = []
    for subjects in ([LAST], [*NAMES, further]):
        run = enrol(tiny_world, tmp_path / str(len(subjects)), subjects, **more)
        state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        found.append(state["subjects.values/vectors"][list(state["subjects._extra_state"]["nouns"]).index(LAST)])
    alone, company = found
    assert alone.dtype == torch.float64
    torch.testing.assert_close(alone, company, rtol=0, atol=1e-10)


def test_groups_end_where_one_group_does(together: Path, tiny_world: TinyWorld, tmp_path: Path) -> None:
    run = enrol(tiny_world, tmp_path / "run", data__enrolment__at_once=2)
    assert_same(vectors(together), vectors(run))
    manifest = json.loads((run / "manifest.json").read_text())
    assert (manifest["steps"], manifest["subjects"], manifest["subjects_at_once"]) == (2 * STEPS, 3, 2)
    timings = manifest["enrolment"]
    assert tuple(timings) == NAMES and [timings[name]["at_once"] for name in NAMES] == [2, 2, 1]
    first, second, third = (timings[name]["seconds"] for name in NAMES)
    assert first == second and first + third <= manifest["seconds"] + ROUNDING


@pytest.mark.parametrize("at_once", [3, 2], ids=["one group", "a process without a subject"])
def test_two_processes_divide_the_subjects(at_once: int, together: Path, tiny_world: TinyWorld, tmp_path: Path) -> None:
    both = {"trainer__devices": 2, "trainer__strategy": "ddp_fork", "data__enrolment__at_once": at_once}
    run = enrol(tiny_world, tmp_path / "run", **both)
    assert_same(vectors(together), vectors(run))
    assert json.loads((run / "manifest.json").read_text())["processes"] == 2


@pytest.mark.parametrize("step", [STEPS - 1, STEPS, STEPS + 3], ids=["first group", "between", "second group"])
def test_a_run_that_was_told_to_end_keeps_finished_subjects_and_goes_on(
    step: int, together: Path, tiny_world: TinyWorld, tmp_path: Path
) -> None:
    given = tiny_world.sefi_ide(tmp_path / "run", data__enrolment__at_once=2)
    assert train.main([*given, *fault("Signal", name="SIGTERM", step=step)]) == 143
    kept = torch.load(tmp_path / "run" / "checkpoints" / "interrupted.ckpt", weights_only=True)["state_dict"]
    assert kept["subjects._extra_state"]["enrolled"] == (list(NAMES[:2]) if step >= STEPS else [])
    noted = kept["subjects._extra_state"]["timings"]
    assert train.main(given) == 0
    assert_same(vectors(together), vectors(tmp_path / "run"))
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["steps_of_this_start"] == 2 * STEPS - step
    for name, timing in noted.items():
        assert manifest["enrolment"][name]["seconds"] > timing["seconds"] - 0.005, "the time before counts too"


def test_a_killed_run_goes_on_from_its_last_checkpoint(together: Path, tiny_world: TinyWorld, tmp_path: Path) -> None:
    given = tiny_world.sefi_ide(tmp_path / "run", data__enrolment__at_once=2)
    kill = fault("Signal", name="SIGKILL", step=STEPS + 3)
    process = get_context("fork").Process(target=lambda: os._exit(train.main([*given, *kill])))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert train.main(given) == 0
    assert_same(vectors(together), vectors(tmp_path / "run"))
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["steps_of_this_start"] == STEPS - 2


def test_a_new_run_starts_from_the_vectors_of_another(together: Path, tiny_world: TinyWorld, tmp_path: Path) -> None:
    still = {"model__learning_rate": 0.0, "data__enrolment__steps": 1, "start_from": together}
    for tokens in ("free", "module"):
        run = enrol(tiny_world, tmp_path / tokens, [LAST], model__tokens=tokens, **still)
        assert_same(vectors(run), vectors(together), within=0)


def test_a_run_cut_short_by_max_steps_keeps_what_it_has(tiny_world: TinyWorld, tmp_path: Path) -> None:
    assert tuple(vectors(enrol(tiny_world, tmp_path / "run", trainer__max_steps=2))) == NAMES


def test_the_time_of_validation_is_not_that_of_enrolling(
    tiny_world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that a training step moves by 1 and an image of validation by 100."""
    now = [0.0]

    def moving(seconds: float, step: Callable[..., object]) -> Callable[..., object]:
        def moved(*arguments: object) -> object:
            now[0] += seconds
            return step(*arguments)

        return moved

    monkeypatch.setattr(per_subject, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(SefiIDE, "training_step", moving(1.0, SefiIDE.training_step))
    monkeypatch.setattr(SefiIDE, "validation_step", moving(100.0, SefiIDE.validation_step))
    validation = {"data__validation__prompts": "[a photo of a <subject>]", "trainer__check_val_every_n_epoch": "null"}
    more = {"trainer__val_check_interval": 3, "data__enrolment__at_once": 1}
    run = enrol(tiny_world, tmp_path / "run", NAMES[:2], **validation, **more)
    assert now[0] >= 2 * STEPS + 400
    timings = json.loads((run / "manifest.json").read_text())["enrolment"]
    assert timings == {name: {"seconds": float(STEPS), "at_once": 1} for name in NAMES[:2]}


class Bar(ProgressBar):
    """A progress bar that keeps how many subjects it shows after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[float | None] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        self.shown.append(self.get_metrics(trainer, pl_module).get("enrolled"))  # type: ignore[arg-type]


def test_the_progress_bar_counts_a_groups_subjects_with_its_last_step(
    together: Path, tiny_world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in a run that starts from vectors of all of them."""
    bar = Bar()
    monkeypatch.setattr("training.cli.StepBar", lambda: bar)
    more = {"trainer__enable_progress_bar": "true", "data__enrolment__at_once": 2, "start_from": together}
    enrol(tiny_world, tmp_path / "run", **more)
    assert bar.shown == [None] * (STEPS - 1) + [2.0] * STEPS + [3.0]


def test_subjects_may_be_called_like_parts_of_a_module(tiny_world: TinyWorld, tmp_path: Path) -> None:
    folder = tmp_path / "dataset"
    folder.mkdir()
    names = dict(zip(TEST, ("half", "type", "training"), strict=True))
    rows = [{**row, "subject_id": name} for subject, name in names.items() for row in rows_of(subject, GRID)]
    Dataset.from_list(rows, features=features()).to_parquet(folder / "test.parquet")
    run = enrol(tiny_world, tmp_path / "run", data__source=folder)
    module = Run(run).load()
    assert isinstance(module, SefiIDE) and sorted(module.subjects.known) == sorted(names.values())
    assert all(torch.equal(module.subjects[name][VECTORS], value) for name, value in vectors(run).items())


def test_an_object_is_enrolled_like_a_person(tiny_world: TinyWorld, tmp_path: Path) -> None:
    """The class noun is data."""
    folder = tmp_path / "dataset"
    folder.mkdir()
    rows = [{**row, "subject_class": "hat"} for row in rows_of(TEST[0], GRID)]
    Dataset.from_list(rows, features=features()).to_parquet(folder / "test.parquet")
    faces = {"data__enrolment__faces": tiny_world.faces, "data__enrolment__face_classes": "[person]"}
    run = enrol(tiny_world, tmp_path / "run", data__source=folder, **faces)
    module = Run(run).load()
    assert isinstance(module, SefiIDE) and module.subjects.nouns == {NAMES[0]: "hat"}
    noun = module.noun_embedding("hat")
    assert (module.subjects[NAMES[0]][VECTORS] - noun).norm(dim=-1).min() > 20 * by_decay(module, noun)


def test_validation_of_an_object_speaks_of_its_class(
    tiny_world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, heard = tmp_path / "dataset", set()
    folder.mkdir()
    rows = [{**row, "subject_class": "hat"} for row in rows_of(TEST[0], GRID)]
    rows += rows_of(TEST[1], GRID)
    Dataset.from_list(rows, features=features()).to_parquet(folder / "test.parquet")
    read = ClipJudge.text_features

    def text_features(self: ClipJudge, texts: list[str]) -> object:
        heard.update(texts)
        return read(self, texts)

    monkeypatch.setattr(ClipJudge, "text_features", text_features)
    prompts = f"['a photo of a <subject>', 'a <subject> and a <{NAMES[1]}>']"
    validation = {"data__validation__prompts": prompts, "trainer__check_val_every_n_epoch": "null"}
    validation["data__validation__subjects"] = 1
    judges = {"judges__faces": tiny_world.faces, "judges__clip": tiny_world.clip, "trainer__val_check_interval": STEPS}
    enrol(tiny_world, tmp_path / "run", NAMES[:2], data__source=folder, **validation, **judges)
    assert heard == {"a photo of a hat", "a hat and a person"}


def test_a_subject_that_the_run_lacks_is_named_with_the_command_that_enrols_it(alone: Path) -> None:
    with pytest.raises(
        LikenessError, match=r"""not enrolled in this run: s0000 .*train.py .*subjects '\[.*"s0000"\]'"""
    ) as raised:
        Run(alone).load().conditioning(request_batch())
    assert LAST in str(raised.value) and "\n" not in str(raised.value)


def test_the_command_for_a_missing_subject_can_be_pasted_whatever_the_ids(
    tiny_world: TinyWorld, tmp_path: Path
) -> None:
    folder, names = tmp_path / "dataset", ("0007", "10023", "on")
    folder.mkdir()
    numbered = dict(zip(TEST, names, strict=True))
    rows = [{**row, "subject_id": name} for subject, name in numbered.items() for row in rows_of(subject, GRID)]
    Dataset.from_list(rows, features=features()).to_parquet(folder / "test.parquet")
    run = enrol(tiny_world, tmp_path / "a run", data__subjects='["0007"]', data__source=folder)
    line = missing_subjects(names[1:], list(vectors(run)), str(run))
    _, _, command = line.partition("python train.py ")
    assert train.main([str(tmp_path / "new") if word == "NEW" else word for word in shlex.split(command)]) == 0
    assert tuple(vectors(tmp_path / "new")) == names


def mistakes(world: TinyWorld, folder: Path, alone: Path) -> dict[str, tuple[dict[str, object], list[str]]]:
    """What a user may get wrong: settings, and what the one line must say."""
    validated = {"trainer__val_check_interval": 2, "trainer__check_val_every_n_epoch": "null", "checkpoint_every": 1}
    return {
        "no photo": ({"data__subjects": "[nobody]"}, ["'nobody'", "no reference photo"]),
        "no face": (
            {"data__source": folder / "dark", "data__enrolment__faces": world.faces,
             "data__enrolment__face_classes": "[person]"},
            [f"the reference photo of {NAMES[0]}", "shows no face", "'person'"],
        ),
        "long noun": ({"data__source": folder / "long"}, ["'wombat'", "tokens of this text encoder", "subject_class"]),
        "caption": (
            {"data__source": folder / "long", "data__enrolment__prompts": "[null]"},
            ["does not say 'wombat'", "data.enrolment.prompts"],
        ),
        "no placeholder": ({"data__enrolment__prompts": "[a photo]"}, ["'a photo'", "must hold <subject> once"]),
        "two placeholders": (
            {"data__enrolment__prompts": "[a <subject> and a <subject>]"},
            ["must hold <subject> once"],
        ),
        "glued placeholder": (
            {"data__enrolment__prompts": "[a photo of a super<subject>]"},
            [f"subject {NAMES[0]} cannot be enrolled", "must stand alone", "data.enrolment.prompts"],
        ),
        "long caption": (
            {"data__source": folder / "wordy", "data__enrolment__prompts": "[null]", "data__enrolment__at_once": 1},
            [f"subject {NAMES[1]} cannot be enrolled", "<subject> reaches to token", "behind the 22 that are read"],
        ),
        "no room for three tokens": (
            {"data__enrolment__prompts": f"['{20 * 'a '}<subject>']", "model__tokens_per_subject": 3},
            [f"subject {NAMES[0]} cannot be enrolled", "<subject> reaches to token 23"],
        ),
        "other base": (
            {"start_from": alone, "model__backbone": folder / "other", "data__backbone": folder / "other"},
            ["was trained for backbone"],
        ),
        "other shape": ({"start_from": alone, "model__stages": 3}, ["does not fit", "(5, 2, 1, 32)", "(3, 2, 1, 32)"]),
        "grid": ({"model__attention_side": 7}, ["model.attention_side 7", "16"]),
        "stages": ({"model__stages": 0}, ["model.stages is 0"]),
        "tokens": ({"model__tokens_per_subject": 0}, ["model.tokens_per_subject is 0"]),
        "sanity": ({"trainer__num_sanity_val_steps": 1}, ["num_sanity_val_steps must be 0"]),
        "batches": ({"trainer__limit_train_batches": 2}, ["limit_train_batches is 2", "data.enrolment.steps"]),
        "steps": ({"data__enrolment__steps": 0}, ["data.enrolment.steps is 0"]),
        "accumulation": ({"trainer__accumulate_grad_batches": 2}, ["accumulate_grad_batches must be 1"]),
        "too short": (
            {"trainer__max_steps": STEPS, "data__enrolment__at_once": 2},
            ["trainer.max_steps 6", "2 groups", "at_once"],
        ),
        "too long": ({"trainer__max_steps": STEPS + 2}, ["trainer.max_steps 8", "6 steps", "data.enrolment.steps"]),
        "epochs": ({"trainer__max_epochs": 2}, ["trainer.max_epochs is 2", "must be 1"]),
        "clipping": (
            {"trainer__gradient_clip_algorithm": "value"},
            ["trainer.gradient_clip_algorithm", "'value'", "norm"],
        ),
        "number": ({"data__subjects": "[10023]"}, ["data.subjects must be a list of names", """'["s0225","10023"]'"""]),
        "zeros": ({"data__subjects": "[0007]"}, ["data.subjects must be a list of names", "quotes"]),
        "no brackets": ({"data__subjects": NAMES[0]}, ["data.subjects must be a list of names in brackets"]),
        "no subject": ({"data__subjects": "[]"}, ["data.subjects is empty", "null"]),
        "validation prompt": (
            {"data__validation__prompts": "[a photo]"},
            ["data.validation.prompts", "'a photo'", "must hold <subject> once"],
        ),
        "validation stranger": (
            {"data__validation__prompts": "[a <subject> and a <nobody>]"},
            ["'a <subject> and a <nobody>'", "<nobody> names no subject"],
        ),
        "validation later": (
            {"data__validation__prompts": f"[a <subject> and a <{LAST}>]", "data__enrolment__at_once": 2},
            [f"<{LAST}> is not a subject of the first group", NAMES[0]],
        ),
        "validation twice": (
            {"data__validation__prompts": f"[a <subject> and a <{NAMES[0]}>]"},
            [f"is generated for {NAMES[0]} too"],
        ),
        "validation glued": (
            {"data__validation__prompts": "[a photo of a super<subject>]", **validated},
            ["data.validation.prompts", "'a photo of a super<subject>'", "must stand alone"],
        ),
        "validation long": (
            {"data__validation__prompts": f"['{22 * 'a '}<subject>']", **validated},
            ["data.validation.prompts", "<subject> reaches to token 23"],
        ),
        "misspelt key": ({"data__enrolment__stepz": 3}, ["data.enrolment", "stepz", "did you mean"]),
        "face pack": ({"data__enrolment__face_classes": "[person]"}, ["data.enrolment.faces"]),
        "face classes": (
            {"data__enrolment__faces": world.faces},
            ["data.enrolment.faces", "data.enrolment.face_classes", "[person]"],
        ),
    }  # fmt: skip


@pytest.fixture(scope="module")
def odd_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset without a face in it, one with a class noun that the text encoder does not know, one whose second
    subject has a caption that is too long, another base model."""
    folder = tmp_path_factory.mktemp("odd")
    for name in ("dark", "long", "wordy"):
        (folder / name).mkdir()
    rows = rows_of(TEST[0], GRID)
    long = [{**row, "subject_class": "wombat"} for row in rows]
    Dataset.from_list(long, features=features()).to_parquet(folder / "long" / "test.parquet")
    Dataset.from_list([_black(row) for row in rows], features=features()).to_parquet(folder / "dark" / "test.parquet")
    wordy = [{**row, "caption": 22 * "a " + "person"} for row in rows_of(TEST[1], GRID)]
    Dataset.from_list([*rows, *wordy], features=features()).to_parquet(folder / "wordy" / "test.parquet")
    tiny_base(folder / "other", seed=1)
    return folder


def _black(row: dict) -> dict:
    """The row with a picture of nothing, which differs from the other ones by a single pixel."""
    image = Image.new("RGB", (64, 64))
    image.putpixel((row["pose_id"], row["background_id"]), (1, 1, 1))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    data = buffer.getvalue()
    return {**row, "image": {"bytes": data, "path": None}, "sha256": hashlib.sha256(data).hexdigest()}


@pytest.mark.parametrize(
    "name",
    [
        "no photo", "no face", "long noun", "caption", "no placeholder", "two placeholders", "glued placeholder",
        "other base", "other shape", "grid", "stages", "tokens", "steps", "accumulation", "too short", "misspelt key",
        "sanity", "batches", "face pack", "too long", "epochs", "clipping", "no subject", "validation prompt",
        "validation stranger", "validation later", "validation twice", "validation glued", "validation long",
        "long caption", "no room for three tokens", "number", "zeros", "no brackets", "face classes",
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_leaves_nothing(
    name: str, tiny_world: TinyWorld, odd_data: Path, alone: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings, words = mistakes(tiny_world, odd_data, alone)[name]
    assert train.main(tiny_world.sefi_ide(tmp_path / "run", **settings)) == 2
    output = capfd.readouterr()
    lines = [line for line in output.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in output.err + output.out
    assert [word for word in words if word not in lines[0]] == [], lines[0]
    assert not [path for path in (tmp_path / "run").rglob("*") if path.suffix in (".safetensors", ".ckpt", ".json")]


def test_other_subjects_do_not_go_on_from_a_checkpoint(
    tiny_world: TinyWorld, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = enrol(tiny_world, tmp_path / "run", [LAST])
    before = vectors(run)
    assert train.main(tiny_world.sefi_ide(run, NAMES)) == 2
    assert "was trained with data.subjects ['" in capfd.readouterr().err
    assert_same(before, vectors(run), within=0)


@pytest.mark.parametrize(
    ("method", "more", "words"),
    [
        ("SefiIDE", [], "SefiIDE: data.enrolment is missing: it optimises per subject"),
        ("SpotDiff", ["--data.enrolment.steps=2"], "SpotDiff: data.enrolment is given: it trains on pairs"),
    ],
)
def test_a_method_gets_the_kind_of_data_it_trains_on(
    method: str, more: list[str], words: str, tiny_world: TinyWorld, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    given = tiny_world.arguments(tmp_path / "run", model=f"lightning_modules.{method}")
    only = ("--model.image_width", "--model.hidden") if method == "SefiIDE" else ()
    assert train.main([*(a for a in given if not only or not a.startswith(only)), *more]) == 2
    assert words in capfd.readouterr().err
