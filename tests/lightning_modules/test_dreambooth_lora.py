"""What is particular to DreamBooth-LoRA: prior preservation, the identifier, the class images."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import train
from contracts.errors import LikenessError
from contracts.records import Request
from lightning_modules.dreambooth_lora import DreamBoothLoRA
from networks.adapter_file import read_adapter
from networks.backbone import Backbone
from pocket.tiny.world import TinyWorld
from tests.helpers.batches import SUBJECTS, build, request_batch, subject_batch
from tests.helpers.enrolment import NAMES


def lora(backbone: Backbone, **arguments: object) -> DreamBoothLoRA:
    module = build(DreamBoothLoRA, backbone, **arguments)
    assert isinstance(module, DreamBoothLoRA)
    return module


@torch.no_grad()
def test_the_prior_is_the_error_on_class_images_under_the_class_prompt(backbone: Backbone) -> None:
    """One call of the UNet gives what two calls give: photo and class image, each under its own words."""
    module, batch = lora(backbone), subject_batch(step=3)
    terms = module.loss_terms(batch)
    torch.testing.assert_close(
        terms["diffusion"], module.denoising_error(batch, module.train_conditioning(batch)).mean(), rtol=1e-5, atol=1e-6
    )
    z, noise, timestep = module._class_batch(batch, ["a photo of a person"] * 4)
    pairs = module.slots(torch.arange(4))
    states = backbone.encode_text(["a photo of a person"] * 4).states
    conditioning = replace(module.train_conditioning(batch), text_keys=states[:, None], text_values=states[:, None])
    assert pairs.keys() == conditioning.pairs.keys()
    noisy, target = module.noised(z, noise, timestep)
    error = module.denoise(noisy, timestep, conditioning) - target
    torch.testing.assert_close(terms["prior"], error.pow(2).mean(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(lora(backbone, prior_weight=0.5).loss_terms(batch)["prior"], 0.5 * terms["prior"])
    assert set(lora(backbone, prior_weight=0.0).loss_terms(batch)) == {"diffusion"}


def test_class_images_and_their_noise_are_a_subjects_own(backbone: Backbone) -> None:
    module = lora(backbone)
    text = ["a photo of a person"]
    both = module._class_batch(subject_batch(SUBJECTS[:2], step=5), 2 * text)
    alone = module._class_batch(subject_batch(SUBJECTS[1:2], step=5), text)
    later = module._class_batch(subject_batch(SUBJECTS[1:2], step=6), text)
    assert all(torch.equal(one[1:], other) for one, other in zip(both, alone, strict=True))
    assert not torch.equal(alone[1], later[1])
    seen = {float(module._class_batch(subject_batch(SUBJECTS[:1], step=k), text)[0].sum()) for k in range(30)}
    assert len(seen) == 3, "in time it sees all of them"


def test_a_fresh_subject_is_the_base_model_told_the_identifier(backbone: Backbone) -> None:
    module = DreamBoothLoRA(backbone)
    module.prepare(dict.fromkeys(SUBJECTS, "person"), 4, seed=0)
    module.start_group(SUBJECTS)
    module.collect()
    batch = request_batch(2)
    conditioning = module.conditioning(batch)
    torch.testing.assert_close(
        conditioning.text_keys[:, 0], backbone.encode_text(["a photo of a sks person"] * 2).states
    )
    t = torch.tensor([7, 800])
    with torch.no_grad():
        found = module.denoise(batch.noise, t, conditioning)
        plain = super(DreamBoothLoRA, module).denoise(batch.noise, t, conditioning)
    torch.testing.assert_close(found, plain, rtol=0, atol=0)


def test_the_scale_is_read_when_images_are_generated_and_not_in_training(backbone: Backbone) -> None:
    whole, half = lora(backbone), lora(backbone, scale=0.5)
    assert (whole.conditioning(request_batch(1)).strength, half.conditioning(request_batch(1)).strength) == (1.0, 0.5)
    assert half.train_conditioning(subject_batch()).strength == 1.0


@pytest.mark.parametrize("identifier", ["", "two words", "<sks>", "xqzwvkjhgf"])
def test_an_identifier_that_the_text_encoder_would_spell_is_one_line(backbone: Backbone, identifier: str) -> None:
    with pytest.raises(LikenessError, match=r"model\.identifier .* tokens at most, such as sks") as raised:
        DreamBoothLoRA(backbone, identifier=identifier)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a photo of a person", "has 0 placeholders <subject>: write it once"),
        ("a <subject> and a <subject>", "has 2 placeholders"),
        ("a <subject> and a <s0001>", "names a second subject, <s0001>"),
        ("a super<subject>", "must stand alone"),
        (f"{21 * 'a '}<subject>", "<subject> reaches to token 25, behind the 22"),
    ],
)
def test_prompts_that_it_cannot_take(backbone: Backbone, tmp_path: Path, prompt: str, words: str) -> None:
    module = lora(backbone)
    module.save_adapter(tmp_path / "adapter.safetensors")
    tensors, metadata = read_adapter(tmp_path / "adapter.safetensors")
    assert metadata["identifier"] == "sks"
    with pytest.raises(LikenessError, match=words):
        DreamBoothLoRA.check_prompts([Request("s0000", "p", prompt, "mix", 0)], tensors, metadata, backbone.tokenizer)
    with pytest.raises(LikenessError, match=words):
        module.conditioning(replace(request_batch(1), prompts=(prompt,)))


@pytest.mark.parametrize(("name", "value"), [("alpha", 8), ("identifier", "zz")])
def test_weights_that_mean_something_else_are_refused(
    backbone: Backbone, tmp_path: Path, name: str, value: object
) -> None:
    lora(backbone).save_adapter(tmp_path / "adapter.safetensors")
    other = lora(backbone, **{name: value})
    with pytest.raises(LikenessError, match=f"was trained with model.{name} .*, this is {value}: give that one"):
        other.load_adapter(tmp_path / "adapter.safetensors")


def test_class_images_are_made_once_for_all_runs_by_all_processes(tiny_world: TinyWorld, tmp_path: Path) -> None:
    def enrol(name: str, cache: str, **more: object) -> dict[str, int]:
        settings = {"data__cache_dir": tmp_path / cache, "data__enrolment__steps": 2, "model__class_images": 5, **more}
        assert train.main(tiny_world.enrolment("DreamBoothLoRA", tmp_path / name, NAMES[:2], **settings)) == 0
        files = (tmp_path / cache / "class_images").rglob("*.*")
        return {str(path): path.stat().st_mtime_ns for path in files}

    made = enrol("one", "cache", trainer__devices=2, trainer__strategy="ddp_fork")
    assert sorted(Path(name).name for name in made) == ["0000.safetensors", "0001.safetensors"]
    assert enrol("two", "cache", seed_everything=3) == made, "another run makes none"
    assert len(enrol("three", "other")) == 2, "one process alone makes the same ones"
    first, second = (read_adapter(tmp_path / name / "adapter.safetensors")[0] for name in ("one", "three"))
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=0, atol=1e-5)


def test_it_trains_in_bfloat16(tiny_world: TinyWorld, tmp_path: Path) -> None:
    given = tiny_world.enrolment("DreamBoothLoRA", tmp_path / "run", [NAMES[0]], trainer__precision="bf16-mixed")
    assert train.main(given) == 0
    tensors, _ = read_adapter(tmp_path / "run" / "adapter.safetensors")
    assert all(value.dtype == torch.float32 for value in tensors.values())
    assert all(value.abs().max() > 0 for value in tensors.values()), "every pair has learnt"
