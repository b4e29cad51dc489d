import copy
import dataclasses
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor

from contracts.batch import PairBatch
from contracts.errors import LikenessError
from lightning_modules.pidiff import PIDiff
from lightning_modules.run import Run
from losses.attention_leak import attention_leak
from networks.attention import taken_notes
from networks.backbone import Backbone
from networks.decoupled_attention import IdentityProjections, MeasuredConditioning
from networks.residual_attention import ResidualProjections
from networks.sampler import SamplingSettings
from tests.helpers.batches import (
    CODE_ROWS,
    CODE_WIDTH,
    build,
    face_batch,
    factor_batch,
    pair_batch,
    request_batch,
)

STAGE_2 = {"diffusion", "background", "disentanglement", "attention"}


def pidiff(backbone: Backbone, **arguments: object) -> PIDiff:
    module = build(PIDiff, backbone, **arguments)
    assert isinstance(module, PIDiff)
    return module


def total(module: PIDiff, batch: object) -> Tensor:
    return torch.stack(list(module.loss_terms(batch).values())).sum()  # type: ignore[arg-type]


def touched(module: PIDiff) -> set[str]:
    """The kinds of weights that hold a gradient: mapper, to_q, to_k, to_v."""
    names = [name for name, p in module.adapter().named_parameters() if p.grad is not None]
    return {"mapper" if name.startswith("mapper") else name.split(".")[-2] for name in names}


def test_stage_one_is_the_denoising_error_and_trains_everything(backbone: Backbone) -> None:
    module, batch = pidiff(backbone), face_batch()
    terms = module.loss_terms(batch)
    expected = module.denoising_error(batch, module.train_conditioning(batch)).mean()
    assert set(terms) == {"diffusion"} and torch.equal(terms["diffusion"], expected)
    terms["diffusion"].backward()
    assert touched(module) == {"mapper", "to_q", "to_k", "to_v"}


@pytest.mark.parametrize(
    ("settings", "more"), [({}, set()), ({"train_query": True}, {"to_q"}), ({"train_mapper": True}, {"mapper"})]
)
def test_stage_two_leaves_mapper_and_queries_as_they_are(backbone: Backbone, settings: dict, more: set) -> None:
    module = pidiff(backbone, **settings)
    total(module, pair_batch()).backward()
    assert touched(module) == {"to_k", "to_v"} | more


def test_a_stage_that_follows_the_other_does_not_move_what_is_frozen(backbone: Backbone) -> None:
    """The optimiser has momentum for the mapper from stage 1 and must not use it."""
    module = pidiff(backbone)
    optimiser = torch.optim.AdamW(module.parameter_groups(), lr=1e-2)
    before: dict[str, Tensor] = {}
    for batch in (face_batch(), face_batch(), pair_batch(), pair_batch()):
        if isinstance(batch, PairBatch) and not before:
            before = copy.deepcopy(module.adapter().state_dict())
        optimiser.zero_grad()
        total(module, batch).backward()
        optimiser.step()
    for name, value in module.adapter().state_dict().items():
        frozen = name.startswith("mapper") or name.endswith("to_q.weight")
        assert torch.equal(value, before[name]) == frozen, name


def test_stage_two_is_the_sum_of_the_sheet(backbone: Backbone) -> None:
    """L_face + L_bg + 0.5 L_dis + 0.01 L_att, each written out here."""
    module, batch = pidiff(backbone), pair_batch()
    terms = module.loss_terms(batch)
    noisy, target = module.noisy_and_target(batch)
    with torch.no_grad():
        plain = module.train_conditioning(batch)
        measured = MeasuredConditioning.from_text(batch.text_states, identity=plain.identity)
        own, own_norms = module.denoise(noisy, batch.timestep, measured), taken_notes(backbone.unet)
        stranger = dataclasses.replace(batch, reference=batch.other)
        other = module.denoise(noisy, batch.timestep, module.train_conditioning(stranger))
        text = dataclasses.replace(module.train_conditioning(batch), scale=0.0)
        base = module.denoise(noisy, batch.timestep, text)
    m = batch.face
    assert m is not None
    channels = own.shape[1]
    expected = {
        "diffusion": (((m * (own - target) ** 2).sum((1, 2, 3))) / (channels * m.sum((1, 2, 3)))).mean(),
        "background": ((((1 - m) * (own - base) ** 2).sum((1, 2, 3))) / (channels * (1 - m).sum((1, 2, 3)))).mean(),
        "disentanglement": 0.5 * ((1 - m) * (own - other)).square().mean(),
        "attention": 0.01 * torch.stack([attention_leak(n, m) for n in own_norms if n.shape[1] == 64]).mean(),
    }
    assert set(terms) == STAGE_2 and own_norms
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_without_localisation_the_losses_are_those_of_the_wplus_adapter(backbone: Backbone) -> None:
    module, batch = pidiff(backbone, localised=False), pair_batch()
    terms = module.loss_terms(batch)
    noisy, _ = module.noisy_and_target(batch)
    with torch.no_grad():
        identity = module.train_conditioning(batch)
        own = module.denoise(noisy, batch.timestep, identity)
        base = module.denoise(noisy, batch.timestep, dataclasses.replace(identity, scale=0.0))
    torch.testing.assert_close(terms["diffusion"], module.denoising_error(batch, identity).mean())
    torch.testing.assert_close(terms["background"], (own - base).square().mean(), rtol=1e-4, atol=1e-6)


def test_an_unchanged_code_has_no_disentanglement_loss(backbone: Backbone) -> None:
    batch = pair_batch()
    same = dataclasses.replace(batch, other=batch.reference)
    assert pidiff(backbone).loss_terms(same)["disentanglement"] == 0.0


def test_nobody_has_no_disentanglement_loss(backbone: Backbone) -> None:
    batch = pair_batch()
    dropped = dataclasses.replace(batch, drop_identity=torch.ones(4, dtype=torch.bool))
    assert pidiff(backbone).loss_terms(dropped)["disentanglement"] == 0.0


def test_of_one_person_alone_there_is_no_disentanglement_loss(backbone: Backbone) -> None:
    alone = dataclasses.replace(pair_batch(), other={})
    assert set(pidiff(backbone).loss_terms(alone)) == STAGE_2 - {"disentanglement"}


@pytest.mark.parametrize(("weight", "forwards"), [(0.5, 3), (0.0, 2)])
def test_without_its_weight_the_disentanglement_loss_costs_nothing(
    backbone: Backbone, weight: float, forwards: int
) -> None:
    module, calls = pidiff(backbone, disentanglement_weight=weight), []
    hook = backbone.unet.register_forward_hook(lambda *_: calls.append(1))
    terms = module.loss_terms(pair_batch())
    hook.remove()
    assert len(calls) == forwards and ("disentanglement" in terms) == bool(weight)


def test_the_targets_hold_no_graph(backbone: Backbone) -> None:
    """What backward needs to keep is what one forward keeps, whatever the other two computed."""
    module, batch = pidiff(backbone), pair_batch()

    def kept(work) -> int:  # type: ignore[no-untyped-def]
        sizes: dict[int, int] = {}

        def note(x: Tensor) -> Tensor:
            sizes[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
            result = work()
        assert result.requires_grad
        return sum(sizes.values())

    noisy, _ = module.noisy_and_target(batch)
    with torch.no_grad():
        identity = module.train_conditioning(batch)
    module.loss_terms(batch)  # queries frozen from here on
    one = kept(lambda: module.denoise(noisy, batch.timestep, identity).sum())
    assert kept(lambda: total(module, batch)) < 1.1 * one


@pytest.mark.parametrize(("attention", "kind"), [("residual", ResidualProjections), ("decoupled", IdentityProjections)])
def test_the_block_is_a_choice(backbone: Backbone, attention: str, kind: type) -> None:
    module = pidiff(backbone, attention=attention)
    assert all(type(layer) is kind for layer in module.attention.values())
    assert set(module.loss_terms(pair_batch())) == STAGE_2
    module.loss_terms(face_batch())["diffusion"].backward()
    assert touched(module) == {"mapper", "to_k", "to_v"} | ({"to_q"} if attention == "residual" else set())


def test_a_level_of_the_code_moves_its_own_tokens(backbone: Backbone) -> None:
    module, codes = pidiff(backbone), request_batch().reference["wplus"]
    edited = codes.clone()
    edited[:, 8:] += 1.0
    moved = (module.identity_tokens(edited) != module.identity_tokens(codes)).any(-1)
    assert torch.equal(moved, torch.tensor([[False, False, True]] * 3))


@pytest.mark.parametrize("delay", [0.0, 0.4, 1.0])
def test_delayed_identity_leaves_the_noisiest_levels_to_the_text(backbone: Backbone, delay: float) -> None:
    module = pidiff(backbone, delay=delay)
    step = module.conditioning(request_batch(3)).at(torch.tensor([0, 599, 999]))
    assert step.scale is not None
    expected = {0.0: [1.0, 1.0, 1.0], 0.4: [1.0, 1.0, 0.0], 1.0: [0.0, 0.0, 0.0]}[delay]
    assert step.scale.tolist() == expected


def test_generating_with_all_identity_delayed_is_generating_without(backbone: Backbone) -> None:
    module = pidiff(backbone, delay=1.0)
    module.sampling = SamplingSettings("ddim", steps=2)
    delayed = module.generate(request_batch())
    module.delay, module.scale = 0.0, 0.0
    assert torch.equal(delayed, module.generate(request_batch()))


def test_guidance_goes_from_the_empty_text_and_nobody(backbone: Backbone) -> None:
    module = pidiff(backbone)
    null = module.null_conditioning(request_batch())
    torch.testing.assert_close(null.text_keys[:, 0], backbone.encode_text([""]).states.expand(3, -1, -1))
    assert null.identity is not None
    assert torch.equal(null.identity, module.mapper.norm.bias.expand(3, 3, -1))
    assert torch.equal(module.train_conditioning(pair_batch()).identity[3:], null.identity[:1])  # type: ignore[index]


def test_groups_for_experts_are_refused_in_one_line(backbone: Backbone) -> None:
    with pytest.raises(LikenessError, match=r"its data\.first_stage is a FaceStage"):
        pidiff(backbone).loss_terms(factor_batch())


@pytest.mark.parametrize("attention", ["residual", "decoupled"])
def test_it_learns_whose_code_goes_with_whose_face(backbone: Backbone, attention: str) -> None:
    """After a few steps of stage 1 a face is predicted better from its own code than from another person's."""
    module = pidiff(backbone, attention=attention)
    batch = dataclasses.replace(face_batch(4), drop_identity=torch.zeros(4, dtype=torch.bool))
    batch = dataclasses.replace(batch, timestep=torch.full((4,), 500))
    swapped = dataclasses.replace(batch, reference={"wplus": batch.reference["wplus"].roll(1, 0)})

    def gap() -> float:
        with torch.no_grad():
            return float(module.loss_terms(swapped)["diffusion"] - module.loss_terms(batch)["diffusion"])

    before = gap()
    optimiser = torch.optim.AdamW(module.parameter_groups(), lr=5e-3)
    for _ in range(40):
        optimiser.zero_grad()
        total(module, batch).backward()
        optimiser.step()
    assert gap() > max(0.001, 3 * abs(before))


def test_a_delay_out_of_range_is_refused(backbone: Backbone) -> None:
    with pytest.raises(LikenessError, match=r"model\.delay is 1\.5"):
        pidiff(backbone, delay=1.5)


@pytest.mark.parametrize("name", ["scale", "delay", "background_weight", "disentanglement_weight", "attention_weight"])
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), "abc", "1e6", None])
def test_a_strength_or_weight_that_is_none_is_refused(backbone: Backbone, name: str, value: object) -> None:
    with pytest.raises(LikenessError, match=rf"model\.{name} is {value!r}, it must be") as raised:
        pidiff(backbone, **{name: value})
    assert "\n" not in str(raised.value)


def test_a_setting_of_a_run_that_is_text_is_one_line(backbone: Backbone, base_folder: Path, tmp_path: Path) -> None:
    """YAML reads 1e6 as text: it takes 1.0e+6 for a number."""
    pidiff(backbone).save_adapter(tmp_path / "adapter.safetensors")
    settings = {"backbone": str(base_folder), "code_rows": CODE_ROWS, "code_width": CODE_WIDTH}
    config = yaml.safe_dump({"model": {"class_path": "lightning_modules.PIDiff", "init_args": settings}})
    (tmp_path / "config.yaml").write_text(f"{config}    scale: 0.5\n")
    assert Run(tmp_path).load().scale == 0.5
    (tmp_path / "config.yaml").write_text(f"{config}    scale: 1e6\n")
    with pytest.raises(LikenessError, match=r"model\.scale is '1e6', it must be a number, 0 or more"):
        Run(tmp_path).load()


def test_a_base_model_without_the_layers_that_the_leak_reads_is_one_line(backbone: Backbone) -> None:
    module, face = pidiff(backbone), torch.ones(2, 1, 16, 16)
    with pytest.raises(
        LikenessError, match=r"model\.attention_weight .*: no cross-attention layer has a grid of 8 or 4"
    ):
        module._leak([torch.ones(2, 25)], face)
    module.attention_weight = 0.0
    assert module._leak([torch.ones(2, 25)], face).tolist() == [0.0, 0.0]
