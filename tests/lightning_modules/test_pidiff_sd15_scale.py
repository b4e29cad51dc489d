"""All of ``configs/pidiff.yaml`` at its real size, on the meta device: shapes and the published parameter counts."""

from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor, nn

from contracts.batch import FaceBatch, PairBatch, RequestBatch
from contracts.text import Text
from lightning_modules.pidiff import PIDiff
from networks.backbone import empty_backbone
from networks.decoupled_attention import IdentityProjections

FOLDER = Path(__file__).parent / "sd15"
CONFIG = yaml.safe_load((Path(__file__).parents[2] / "configs" / "pidiff.yaml").read_text())
LATENT, TEXT, CODE = (4, 64, 64), (77, 768), (18, 512)
QUERIES = [320] * 5 + [640] * 5 + [1280] * 6


def pidiff(**changes: object) -> PIDiff:
    arguments = {k: v for k, v in CONFIG["model"]["init_args"].items() if k != "backbone"} | changes
    with torch.device("meta"):
        return PIDiff(empty_backbone(FOLDER), **arguments)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, device="meta", dtype=dtype)


@pytest.mark.parametrize(("levels", "tokens"), [("three", 3), ("four", 4)])
def test_parameters_are_the_published_ones(levels: str, tokens: int) -> None:
    """W+ Adapter's counts, for its four groups; three levels divide the same rows."""
    model = pidiff(levels=levels)
    assert all(parameter.is_meta for parameter in model.parameters())
    assert len(model.attention) == 16 and model.mapper.tokens == tokens
    assert count(model.mapper) == 7_079_424
    assert count(model.attention) == sum(h * h + 2 * 768 * h for h in QUERIES) == 31_559_680


def test_the_decoupled_form_has_no_query_of_its_own() -> None:
    model = pidiff(attention="decoupled")
    assert all(type(layer) is IdentityProjections for layer in model.attention.values())
    assert count(model.attention) == sum(2 * 768 * h for h in QUERIES)


def shared(size: int) -> dict:
    return {
        "sample_ids": tuple(f"p{i}" for i in range(size)),
        "moments": empty(size, 8, 64, 64),
        "latent_noise": empty(size, *LATENT),
        "noise": empty(size, *LATENT),
        "timestep": empty(size, dtype=torch.int64),
        "text_states": Text(empty(size, *TEXT)),
        "drop_identity": empty(size, dtype=torch.bool),
        "reference": {"wplus": empty(size, *CODE)},
    }


@pytest.mark.parametrize("stage", [1, 2])
def test_one_step_of_each_stage(stage: int) -> None:
    model = pidiff()
    whole = {"mask": empty(1, 1, 64, 64), "face": empty(1, 1, 64, 64)}
    other = {"second_view": {}, "other": {"wplus": empty(1, *CODE)}}
    terms = model.loss_terms(FaceBatch(**shared(1)) if stage == 1 else PairBatch(**shared(1), **whole, **other))
    expected = {"diffusion"} if stage == 1 else {"diffusion", "background", "disentanglement", "attention"}
    assert set(terms) == expected
    torch.stack(list(terms.values())).sum().backward()
    assert all((p.grad is not None) == (stage == 1) for p in model.mapper.parameters())
    for layer in model.attention.values():
        assert layer.to_k.weight.grad is not None and layer.to_v.weight.grad is not None
        assert (layer.to_q.weight.grad is not None) == (stage == 1)


def test_requests_condition_on_one_token_per_level() -> None:
    model = pidiff()
    batch = RequestBatch(
        ("r0",), ("s0",), ("a <subject>",), empty(1, *LATENT), Text(empty(1, *TEXT)), {"wplus": empty(1, *CODE)}
    )
    conditioning = model.conditioning(batch)
    assert conditioning.identity is not None and conditioning.identity.shape == (1, 3, 768)
    assert model.denoise(batch.noise, empty(1, dtype=torch.int64), conditioning).shape == (1, *LATENT)
