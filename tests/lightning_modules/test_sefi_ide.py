"""What is particular to SeFi-IDE: reductions, stages, the text passes, several subjects in one prompt."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from contracts.errors import LikenessError
from lightning_modules.sefi_ide import SefiIDE
from networks.adapter_file import read_adapter
from networks.backbone import Backbone
from networks.sampler import SamplingSettings
from networks.subject_tensors import VECTORS
from tests.helpers.batches import SUBJECTS, build, normal, request_batch, subject_batch

PROMPT = "a photo of a <subject>, in a garden"


def sefi(backbone: Backbone, **arguments: object) -> SefiIDE:
    module = build(SefiIDE, backbone, **arguments)
    assert isinstance(module, SefiIDE)
    return module


def set_vectors(module: SefiIDE, values: torch.Tensor) -> None:
    """Give every subject the vectors (stages, sides, tokens, D)."""
    module.subjects.store(SUBJECTS, {VECTORS: values.expand(len(SUBJECTS), *module.shape)})
    module.on_subjects_changed()


@pytest.mark.parametrize("tokens", [1, 3])
def test_vectors_of_the_class_noun_are_the_plain_prompt(backbone: Backbone, tokens: int) -> None:
    """F1: same images bit for bit up to the kernel, and no attention loss; several tokens are as many nouns."""
    module = sefi(backbone, tokens_per_subject=tokens)
    set_vectors(module, module.noun_embedding("person"))
    batch = request_batch()
    text, values = module.encode_prompt(batch.prompts[0], "s0000")
    keys = text.states
    plain = backbone.encode_text(["a photo of a" + tokens * " person"]).states
    torch.testing.assert_close(keys, plain.expand_as(keys), rtol=0, atol=1e-6)
    torch.testing.assert_close(values, keys, rtol=0, atol=0)
    fresh = SefiIDE(backbone, attention_side=8, tokens_per_subject=tokens)
    fresh.prepare(dict.fromkeys(SUBJECTS, "person"), 4, seed=0)
    fresh.start_group(SUBJECTS)
    assert fresh.loss_terms(subject_batch())["attention"].item() < 1e-9


@pytest.mark.parametrize(("stages", "key_value"), [(1, "shared"), (1, "split"), (5, "shared"), (5, "split")])
def test_equal_vectors_are_textual_inversion(backbone: Backbone, stages: int, key_value: str) -> None:
    """F2: whatever the stages, one vector everywhere is one new token of the vocabulary."""
    module = sefi(backbone, stages=stages, key_value=key_value)
    module.sampling = SamplingSettings("ddim", steps=3, guidance=2.0)
    vector = 0.05 * normal(32, key="vector")
    set_vectors(module, vector)
    batch = request_batch()
    images = module.generate(batch)
    embeddings = backbone.text.encoders[0].get_input_embeddings()
    token = backbone.tokenizer("person", add_special_tokens=False).input_ids[0]
    noun = embeddings.weight.data[token].clone()
    embeddings.weight.data[token] = vector
    inverted = replace(batch, text_states=backbone.encode_text(["a photo of a person"] * 3))
    embeddings.weight.data[token] = noun
    module.scale = 0.0
    assert (images.int() - module.generate(inverted).int()).abs().max() <= 1


def test_training_uses_the_pair_of_the_timesteps_stage(backbone: Backbone) -> None:
    """F3: 0..199 is stage 0, the least noisy, and 800..999 is stage 4."""
    module = sefi(backbone, attention_weight=0.0)
    module.collect()
    edges = torch.tensor([0, 199, 200, 399, 400, 599, 600, 799, 800, 999])
    for t in edges.tolist():
        module.slots.zero_grad()
        batch = subject_batch(("s0000",))
        batch = replace(batch, timestep=torch.tensor([t]))
        found = module.train_conditioning(batch)
        keys, values = module.encode_prompt("a photo of a <subject>", "s0000")
        torch.testing.assert_close(found.text_keys[0, 0], keys.states[t // 200], rtol=0, atol=1e-5)
        torch.testing.assert_close(found.text_values[0, 0], values[t // 200], rtol=0, atol=1e-5)
        generated = module.conditioning(request_batch(1)).at(torch.tensor([t]))
        torch.testing.assert_close(generated.text_keys, found.text_keys[:, 0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("key_value", ["split", "shared"])
def test_what_is_learnt_can_leave_the_values_of_other_tokens_alone(backbone: Backbone, key_value: str) -> None:
    module, usual = sefi(backbone, values_behind="plain", key_value=key_value), sefi(backbone, key_value=key_value)
    for one in (module, usual):
        set_vectors(one, one.noun_embedding("person") + 0.5 * normal(32, key="learnt"))
    keys, values = module.encode_prompt(PROMPT, "s0000")
    usual_keys, usual_values = usual.encode_prompt(PROMPT, "s0000")
    plain = backbone.encode_text([PROMPT.replace("<subject>", "person")]).states[0]
    place = module.place(PROMPT, {"subject": "person"}).every_position[0]
    assert torch.equal(keys.states, usual_keys.states) and torch.equal(values[:, place], usual_values[:, place])
    others = [i for i in range(len(plain)) if i != place]
    torch.testing.assert_close(values[:, others], plain[others].expand(5, -1, -1), rtol=0, atol=1e-6)
    assert not torch.allclose(usual_values[:, others], plain[others].expand(5, -1, -1), atol=1e-3)


def test_values_of_other_tokens_are_left_alone_in_training_too(backbone: Backbone) -> None:
    module = sefi(backbone, values_behind="plain", attention_weight=0.0)
    module.collect()
    batch = replace(subject_batch(("s0000",)), timestep=torch.tensor([500]))
    found = module.train_conditioning(batch)
    _, values = module.encode_prompt("a photo of a <subject>", "s0000")
    torch.testing.assert_close(found.text_values[0, 0], values[2], rtol=0, atol=1e-5)
    found.text_values.pow(3).sum().backward()
    assert any(p.grad is not None and p.grad.any() for p in module.slots.parameters())


def test_ten_text_passes_for_a_prompt_and_none_the_second_time(backbone: Backbone) -> None:
    module, rows = sefi(backbone), []
    backbone.text.encoders[0].register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    module.conditioning(request_batch(3))
    module.conditioning(request_batch(2))
    assert sum(rows) == 10
    sefi(backbone, key_value="shared").conditioning(request_batch(1))
    assert sum(rows) == 15


def test_new_vectors_are_not_generated_with_old_states(backbone: Backbone) -> None:
    module = sefi(backbone)
    before = module.conditioning(request_batch(1)).text_keys
    for parameter in module.slots.parameters():
        parameter.data += 0.1
    module.collect()
    assert not torch.equal(module.conditioning(request_batch(1)).text_keys, before)


@pytest.mark.parametrize("way", ["adapter", "checkpoint"])
def test_vectors_that_are_loaded_are_not_generated_with_old_states(
    backbone: Backbone, tmp_path: Path, way: str
) -> None:
    other = sefi(backbone)
    other.subjects.store(SUBJECTS, {VECTORS: other.subjects.values[VECTORS] + 0.5})
    module = sefi(backbone)
    before = module.encode_prompt(PROMPT, "s0000")[0].states
    if way == "adapter":
        other.save_adapter(tmp_path / "adapter.safetensors")
        module.load_adapter(tmp_path / "adapter.safetensors")
    else:
        module.load_state_dict(other.state_dict())
    after = module.encode_prompt(PROMPT, "s0000")[0].states
    assert not torch.equal(after, before)
    torch.testing.assert_close(after, other.encode_prompt(PROMPT, "s0000")[0].states)


def test_two_subjects_in_one_prompt_keep_vectors_of_their_own(backbone: Backbone) -> None:
    module = sefi(backbone)
    prompt = "a photo of a <subject> and a <s0002>"
    both = module.encode_prompt(prompt, "s0001")[0].states
    swapped = module.encode_prompt("a photo of a <s0001> and a <subject>", "s0002")[0].states
    torch.testing.assert_close(both, swapped)
    alone = module.encode_prompt("a photo of a <subject> and a person", "s0001")[0].states
    where = 1 + len(backbone.tokenizer("a photo of a person and a", add_special_tokens=False).input_ids)
    torch.testing.assert_close(both[:, :where], alone[:, :where], rtol=0, atol=1e-6)
    assert ((both - alone)[:, where:].abs().amax(dim=-1) > 1e-5).all()
    other = module.encode_prompt("a photo of a <subject> and a <s0003>", "s0001")[0].states
    assert not torch.allclose(both, other)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a <subject> and a <subject>", "2 placeholders"),
        ("a <subject> and a <s0000>", "two placeholders for s0000: one is allowed"),
        ("a <subject> and a <s9999>", "not enrolled in this run: s9999"),
    ],
)
def test_a_prompt_that_cannot_be_generated_is_one_line(backbone: Backbone, prompt: str, words: str) -> None:
    with pytest.raises(LikenessError, match=words):
        sefi(backbone).encode_prompt(prompt, "s0000")


def test_a_prompt_that_names_nobody_is_plain_text(backbone: Backbone) -> None:
    plain = backbone.encode_text(["a photo of a person"]).states
    keys, values = sefi(backbone).encode_prompt("a photo of a person", "s0000")
    for states in (keys.states, values):
        assert torch.equal(states, plain.expand_as(states))


def test_scale_leads_from_the_class_noun_to_the_subject(backbone: Backbone) -> None:
    module = sefi(backbone)
    learnt, noun = module.subjects["s0000"][VECTORS], module.noun_embedding("person")
    module.scale = 0.25
    torch.testing.assert_close(module.scaled("s0000"), noun + 0.25 * (learnt - noun))


def test_the_file_holds_the_vectors_and_says_whose(backbone: Backbone, tmp_path: Path) -> None:
    module = sefi(backbone)
    module.save_adapter(tmp_path / "adapter.safetensors")
    tensors, metadata = read_adapter(tmp_path / "adapter.safetensors")
    assert set(tensors) == {f"subjects.{name}" for name in SUBJECTS}
    assert all(value.shape == (5, 2, 1, 32) for value in tensors.values())
    assert metadata["method"] == "SefiIDE" and metadata["nouns"].count("person") == 4
    again = SefiIDE(backbone, attention_side=8)
    again.load_adapter(tmp_path / "adapter.safetensors")
    assert all(torch.equal(again.subjects[name][VECTORS], module.subjects[name][VECTORS]) for name in SUBJECTS)


def test_the_attention_loss_is_weighted(backbone: Backbone) -> None:
    light = sefi(backbone, attention_weight=0.003).loss_terms(subject_batch())["attention"]
    heavy = sefi(backbone, attention_weight=0.03).loss_terms(subject_batch())["attention"]
    torch.testing.assert_close(heavy, 10 * light)
    assert light > 0
