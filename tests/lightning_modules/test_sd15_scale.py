"""All of ``configs/spotdiff.yaml`` at its real size, on the meta device: shapes and counts without any weights."""

from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from contracts.batch import PairBatch, RequestBatch
from contracts.text import Text
from lightning_modules.spotdiff import SpotDiff
from networks.attention import cross_attention_layers
from networks.backbone import empty_backbone

FOLDER = Path(__file__).parent / "sd15"
CONFIG = yaml.safe_load((Path(__file__).parents[2] / "configs" / "spotdiff.yaml").read_text())
LATENT, TEXT = (4, 64, 64), (77, 768)
# Hidden width and side of the query grid at 512 pixels, in the UNet's order: down, up, then the middle.
LAYERS = (
    [(320, 64)] * 2 + [(640, 32)] * 2 + [(1280, 16)] * 2
    + [(1280, 16)] * 3 + [(640, 32)] * 3 + [(320, 64)] * 3
    + [(1280, 8)]
)  # fmt: skip


@pytest.fixture(scope="module")
def model() -> SpotDiff:
    arguments = {k: v for k, v in CONFIG["model"]["init_args"].items() if k != "backbone"}
    with torch.device("meta"):
        return SpotDiff(empty_backbone(FOLDER), **arguments)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def empty(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta")


def pairs(size: int, width: int) -> PairBatch:
    return PairBatch(
        sample_ids=tuple(f"p{i}" for i in range(size)),
        moments=empty(size, 8, 64, 64),
        latent_noise=empty(size, *LATENT),
        noise=empty(size, *LATENT),
        timestep=torch.empty(size, dtype=torch.int64, device="meta"),
        text_states=Text(empty(size, *TEXT)),
        drop_identity=torch.empty(size, dtype=torch.bool, device="meta"),
        reference={"clip": empty(size, width)},
        second_view={"clip": empty(size, width)},
        mask=empty(size, 1, 64, 64),
    )


def test_nothing_has_memory(model: SpotDiff) -> None:
    assert all(parameter.is_meta for parameter in model.parameters())


def test_the_base_model_is_stable_diffusion_1_5(model: SpotDiff) -> None:
    backbone = model.backbone
    assert backbone.latent_shape == LATENT
    assert backbone.resolution == CONFIG["data"]["resolution"] == 512
    assert count(backbone.unet) == 859_520_964
    assert count(backbone.vae) == 83_653_863
    assert count(backbone.text) == 123_060_480
    assert backbone.vae.config.scaling_factor == 0.18215
    assert backbone.scheduler.config.prediction_type == "epsilon"
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


def test_the_image_encoder_has_the_width_that_the_configuration_says() -> None:
    with torch.device("meta"):
        vision = CLIPVisionModel(CLIPVisionConfig.from_pretrained(FOLDER / "image_encoder"))
        pooled = vision(pixel_values=empty(2, 3, 224, 224)).pooler_output
    assert pooled.shape == (2, CONFIG["model"]["init_args"]["image_width"])
    assert count(vision) == 630_766_080


def test_sixteen_cross_attention_layers(model: SpotDiff) -> None:
    layers = cross_attention_layers(model.backbone.unet)
    assert len(layers) == len(model.attention) == 16
    by_block: dict[str, int] = {}
    for name, attn in layers.items():
        block = ".".join(name.split(".")[:2]) if not name.startswith("mid_block") else "mid_block"
        by_block[block] = by_block.get(block, 0) + 1
        assert attn.heads == 8 and attn.to_k.in_features == 768
    assert by_block == {
        "down_blocks.0": 2, "down_blocks.1": 2, "down_blocks.2": 2,
        "mid_block": 1, "up_blocks.1": 3, "up_blocks.2": 3, "up_blocks.3": 3,
    }  # fmt: skip


def test_parameters_that_are_trained(model: SpotDiff) -> None:
    width, hidden, tokens = 1280, 1024, CONFIG["model"]["init_args"]["tokens"]
    keys_and_values = sum(2 * 768 * h for h, _ in LAYERS)
    assert keys_and_values == 19_169_280
    assert count(model.attention) == keys_and_values
    mlp = width * hidden + hidden + hidden * width + width
    assert [count(expert) for expert in model.experts.values()] == [mlp + 2 * width] * 2
    assert count(model.subject) == mlp
    assert count(model.align) == width * tokens * 768 + tokens * 768 + 2 * 768
    assert count(model.adapter()) == keys_and_values + 3 * mlp + 4 * width + count(model.align)


def test_one_step_reaches_every_layer_on_its_grid(model: SpotDiff) -> None:
    layers = cross_attention_layers(model.backbone.unet)
    grids: dict[str, tuple[int, int]] = {}
    identity: list[tuple[int, ...]] = []
    handles = []
    for name, attn in layers.items():

        def remember(module: nn.Module, inputs: tuple[Tensor, ...], name: str = name) -> None:
            grids[name] = (inputs[0].shape[2], inputs[0].shape[1])

        handles.append(attn.to_q.register_forward_pre_hook(remember))
    handles += [
        layer.to_k.register_forward_pre_hook(lambda _, inputs: identity.append(tuple(inputs[0].shape)))
        for layer in model.attention.values()
    ]
    try:
        terms = model.loss_terms(pairs(2, 1280))
    finally:
        for handle in handles:
            handle.remove()
    assert [grids[name] for name in layers] == [(h, side * side) for h, side in LAYERS]
    assert identity == [(2, 4, 768)] * 16
    assert set(terms) == {"diffusion", "invariance"}, "the constraint is an erasure, no loss"
    torch.stack(list(terms.values())).sum().backward()
    assert all(parameter.grad is not None for parameter in model.attention.parameters())


def test_requests_condition_on_four_tokens(model: SpotDiff) -> None:
    batch = RequestBatch(
        ("r0",), ("s0",), ("a <subject>",), empty(1, *LATENT), Text(empty(1, *TEXT)), {"clip": empty(1, 1280)}
    )
    conditioning = model.conditioning(batch)
    assert conditioning.identity is not None
    assert conditioning.identity.shape == (1, CONFIG["model"]["init_args"]["tokens"], 768)
    t = torch.empty(1, dtype=torch.int64, device="meta")
    assert model.denoise(batch.noise, t, conditioning).shape == (1, *LATENT)
