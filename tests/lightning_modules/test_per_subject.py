"""What holds for every method that optimises per subject: groups, resuming, two processes, files, prompts."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

import train
from contracts.batch import SubjectBatch
from contracts.errors import LikenessError
from contracts.records import Request
from lightning_modules.dreambooth_lora import DreamBoothLoRA
from lightning_modules.per_subject import PerSubjectModule
from lightning_modules.textual_inversion import TextualInversion
from networks.adapter_file import read_adapter
from networks.backbone import load_backbone
from networks.sampler import SamplingSettings
from networks.subject_tensors import VECTORS, split_by_subject
from performance.faults.inject import fault
from pocket.render.dataset import rows_of
from pocket.tiny.world import GRID, PER_SUBJECT, TRAINING, TinyWorld
from tests.helpers.batches import PER_SUBJECT_METHODS, request_batch, subject_batch
from tests.helpers.enrolment import NAMES

STEPS = 3
FOUR = (str(rows_of(TRAINING[0], GRID)[0]["subject_id"]), *NAMES)
"""Two groups of two, in the order of a run."""
Method = type[PerSubjectModule]
Found = dict[str, dict[str, Tensor]]


@pytest.fixture(params=PER_SUBJECT_METHODS, ids=lambda method: method.__name__, scope="module")
def method(request: pytest.FixtureRequest) -> Method:
    return request.param


def arguments(method: Method, world: TinyWorld, output: Path, *subjects: str, **changes: object) -> list[str]:
    """Arguments of ``train.main``: groups of two."""
    settings: dict[str, object] = {
        "model__learning_rate": 1e-3,
        "data__enrolment__steps": STEPS,
        "data__enrolment__at_once": 2,
        "trainer__gradient_clip_val": 0.05,
        "checkpoint_every": 1,
        **changes,
    }
    return world.enrolment(method.__name__, output, subjects or FOUR, **settings)


def enrol(method: Method, world: TinyWorld, output: Path, *subjects: str, **changes: object) -> Path:
    assert train.main(arguments(method, world, output, *subjects, **changes)) == 0
    return output


def learnt(run: Path) -> Found:
    tensors, _ = read_adapter(run / "adapter.safetensors")
    return split_by_subject(tensors)


def load(method: Method, world: TinyWorld, run: Path) -> PerSubjectModule:
    small = {name.removeprefix("model."): value for name, value in PER_SUBJECT.get(method.__name__, {}).items()}
    module = method(load_backbone(str(world.base)), **small)
    module.load_adapter(run / "adapter.safetensors")
    module.sampling = SamplingSettings("ddim", steps=2, guidance=3.0)
    return module.eval()


def assert_same(first: Found, second: Found, within: float = 0.0) -> None:
    for subject, tensors in first.items():
        assert tensors.keys() == second[subject].keys()
        for name, value in tensors.items():
            torch.testing.assert_close(value, second[subject][name], rtol=0, atol=within)


@pytest.fixture(scope="module")
def unbroken(method: Method, tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return enrol(method, tiny_world, tmp_path_factory.mktemp("runs") / "unbroken")


def test_two_groups_of_two_learn_their_own_tensors(method: Method, unbroken: Path, tiny_world: TinyWorld) -> None:
    found = learnt(unbroken)
    assert set(found) == set(FOUR)
    shapes = load(method, tiny_world, unbroken).slots.shapes
    for tensors in found.values():
        assert {name: tuple(value.shape) for name, value in tensors.items()} == shapes
    first, second = found[FOUR[0]], found[FOUR[1]]
    assert any((first[name] - second[name]).abs().max() > 1e-3 for name in first)
    manifest = json.loads((unbroken / "manifest.json").read_text())
    assert (manifest["steps"], manifest["subjects"], manifest["subjects_at_once"]) == (2 * STEPS, 4, 2)
    assert manifest["trainable_parameters"] == sum(value.numel() for value in first.values())
    assert [timing["at_once"] for timing in manifest["enrolment"].values()] == [2, 2, 2, 2]
    assert manifest["enrol_seconds"] > 0


def test_a_run_that_is_resumed_ends_like_an_unbroken_one(
    method: Method, unbroken: Path, tiny_world: TinyWorld, tmp_path: Path
) -> None:
    """Stopped in the middle of the second group."""
    step = STEPS + 2
    given = arguments(method, tiny_world, tmp_path / "run")
    assert train.main([*given, *fault("Signal", name="SIGTERM", step=step)]) == 143
    assert train.main(given) == 0
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["steps_of_this_start"] == 2 * STEPS - step
    assert_same(learnt(unbroken), learnt(tmp_path / "run"))


def test_two_processes_end_like_one(method: Method, unbroken: Path, tiny_world: TinyWorld, tmp_path: Path) -> None:
    both = {"trainer__devices": 2, "trainer__strategy": "ddp_fork"}
    run = enrol(method, tiny_world, tmp_path / "run", **both)
    assert_same(learnt(unbroken), learnt(run), within=1e-5)


def test_a_subject_alone_learns_what_it_learns_in_a_group(
    method: Method, unbroken: Path, tiny_world: TinyWorld, tmp_path: Path
) -> None:
    alone = learnt(enrol(method, tiny_world, tmp_path / "run", FOUR[-1]))
    assert set(alone) == {FOUR[-1]}
    assert_same(alone, learnt(unbroken), within=1e-5)


def test_a_new_run_begins_at_the_tensors_of_another(
    method: Method, unbroken: Path, tiny_world: TinyWorld, tmp_path: Path
) -> None:
    still = {"model__learning_rate": 0.0, "data__enrolment__steps": 1, "start_from": unbroken}
    run = enrol(method, tiny_world, tmp_path / "run", FOUR[0], **still)
    assert_same(learnt(run), learnt(unbroken))


def test_an_adapter_is_loaded_and_saved_again(
    method: Method, unbroken: Path, tiny_world: TinyWorld, tmp_path: Path
) -> None:
    module, found = load(method, tiny_world, unbroken), learnt(unbroken)
    assert module.subjects.known == list(FOUR)
    assert_same(found, {name: module.subjects[name] for name in FOUR})
    module.save_adapter(tmp_path / "again.safetensors")
    (before, metadata), (after, same) = (
        read_adapter(file) for file in (unbroken / "adapter.safetensors", tmp_path / "again.safetensors")
    )
    assert metadata == same and before.keys() == after.keys()
    other = next(other for other in PER_SUBJECT_METHODS if other is not method)
    with pytest.raises(LikenessError, match=f"was trained with method {method.__name__}, not {other.__name__}"):
        load(other, tiny_world, unbroken)


def test_requests_of_several_subjects_share_a_batch(method: Method, unbroken: Path, tiny_world: TinyWorld) -> None:
    module = load(method, tiny_world, unbroken)
    batch = replace(request_batch(3), subjects=(FOUR[2], FOUR[0], FOUR[2]), text_states=request_batch(3).text_states)
    same_noise = replace(batch, noise=batch.noise[:1].expand_as(batch.noise))
    together = module.generate(same_noise)
    assert not torch.equal(together[0], together[1])
    for i, subject in enumerate(batch.subjects):
        one = {"request_ids": ("r",), "subjects": (subject,), "prompts": batch.prompts[:1]}
        alone = replace(same_noise, **one, noise=same_noise.noise[:1], text_states=batch.text_states[i : i + 1])
        assert (module.generate(alone).int() - together[i : i + 1].int()).abs().max() <= 1


def test_prompts_are_checked_by_the_adapter_alone(method: Method, unbroken: Path, tiny_world: TinyWorld) -> None:
    tensors, metadata = read_adapter(unbroken / "adapter.safetensors")
    tokenizer = load_backbone(str(tiny_world.base)).tokenizer

    def check(prompt: str) -> None:
        method.check_prompts([Request(FOUR[0], "p", prompt, "mix", 0)], tensors, metadata, tokenizer)

    check("a photo of a <subject>")
    with pytest.raises(LikenessError, match="must stand alone"):
        check("a photo of a super<subject>")
    if method is DreamBoothLoRA:
        with pytest.raises(LikenessError, match="names a second subject"):
            check(f"a <subject> and a <{FOUR[1]}>")
    else:
        check(f"a <subject> and a <{FOUR[1]}>")


def test_rows_of_one_subject_count_as_one_subject(tiny_world: TinyWorld) -> None:
    """Several photos of a subject are several rows: the gradient is that of their mean."""
    module = TextualInversion(load_backbone(str(tiny_world.base)))
    module._trainer = SimpleNamespace(world_size=1, global_step=0, log_every_n_steps=100)  # type: ignore[assignment]
    once = subject_batch(("a", "b"))
    module.prepare({"a": "person", "b": "person"}, 2, seed=0)
    module.start_group(once.group)

    def gradient(batch: SubjectBatch) -> Tensor:
        module.zero_grad()
        module.training_step(batch, 0).backward()
        (stack,) = module.slots.stacked.values()
        assert stack.grad is not None
        return stack.grad.clone()

    fields = ("moments", "latent_noise", "noise", "timestep")
    doubled = {name: torch.cat([getattr(once, name)] * 2) for name in fields}
    twice = replace(once, subjects=once.subjects * 2, prompts=once.prompts * 2, **doubled)
    torch.testing.assert_close(gradient(twice), gradient(once), rtol=1e-4, atol=1e-7)
    assert module.subjects.values[VECTORS].shape == (2, 1, 1, 1, 32)
