"""All of ``configs/sefi_ide.yaml`` at its real size, on the meta device: shapes and counts without any weights."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor
from transformers import CLIPTokenizer

from contracts.batch import SubjectBatch
from lightning_modules.sefi_ide import SefiIDE
from networks.attention import taken_notes
from networks.backbone import empty_backbone
from networks.stage_attention import ComparedConditioning
from networks.subject_tensors import VECTORS
from pocket.tiny.components import tiny_tokenizer

CONFIG = yaml.safe_load((Path(__file__).parents[2] / "configs" / "sefi_ide.yaml").read_text())
SUBJECTS = ("a", "b", "c")


def empty(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> SefiIDE:
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny_tokenizer(folder)
    arguments = {k: v for k, v in CONFIG["model"]["init_args"].items() if k != "backbone"}
    with torch.device("meta"):
        backbone = empty_backbone(Path(__file__).parent / "sd15")
        backbone.text.tokenizers = (CLIPTokenizer.from_pretrained(folder, model_max_length=77),)
        module = SefiIDE(backbone, **arguments)
        module.prepare(dict.fromkeys(SUBJECTS, "person"), len(SUBJECTS), seed=0)
    return module


def batch(size: int) -> SubjectBatch:
    return SubjectBatch(
        group=SUBJECTS,
        step=0,
        subjects=SUBJECTS[:size],
        prompts=(CONFIG["data"]["enrolment"]["prompts"][0],) * size,
        moments=empty(size, 8, 64, 64),
        latent_noise=empty(size, 4, 64, 64),
        noise=empty(size, 4, 64, 64),
        timestep=torch.empty(size, dtype=torch.int64, device="meta"),
    )


def test_a_subject_is_ten_vectors_of_the_text_encoders_width(model: SefiIDE) -> None:
    assert all(parameter.is_meta for parameter in model.parameters())
    assert model.subjects.values[VECTORS].shape == (3, 5, 2, 1, 768)
    assert model.run_facts()["trainable_parameters"] == 31_477_248
    assert sum(p.numel() for group in model.parameter_groups() for p in group["params"]) == 3 * 31_477_248


def test_free_vectors_are_7680_numbers(model: SefiIDE) -> None:
    with torch.device("meta"):
        free = SefiIDE(model.backbone, tokens="free")
        free.prepare({"a": "person"}, 1, seed=0)
    assert sum(p.numel() for group in free.parameter_groups() for p in group["params"]) == 7_680


def test_the_loss_reads_the_five_layers_of_32_cells_a_side(model: SefiIDE) -> None:
    two = batch(2)
    conditioning = model.train_conditioning(two)
    assert isinstance(conditioning, ComparedConditioning)
    assert conditioning.text_keys.shape == conditioning.text_values.shape == (2, 1, 77, 768)
    assert model.denoising_error(two, conditioning).shape == (2,)
    assert [tuple(found.shape) for found, _ in taken_notes(model.backbone.unet)] == [(2, 8, 32 * 32, 77)] * 5


def test_one_step_reaches_every_parameter_of_the_module(model: SefiIDE) -> None:
    terms = model.loss_terms(batch(3))
    assert set(terms) == {"diffusion", "attention"}
    torch.stack(list(terms.values())).sum().backward()
    assert all(parameter.grad is not None for parameter in model.slots.parameters())
    assert not any(parameter.requires_grad for parameter in model.backbone.parameters())


def test_without_the_attention_loss_no_map_is_made(model: SefiIDE) -> None:
    before, model.attention_weight = model.attention_weight, 0.0
    try:
        assert set(model.loss_terms(replace(batch(1)))) == {"diffusion"}
    finally:
        model.attention_weight = before
