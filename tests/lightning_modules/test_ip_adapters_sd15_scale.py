"""``configs/ip_adapter*.yaml`` at their real size, on the meta device: the sizes of the published files."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel

import lightning_modules
from contracts.batch import RequestBatch
from contracts.text import Text
from lightning_modules.image_prompt import ImagePrompt
from networks.backbone import empty_backbone

FOLDER = Path(__file__).parent / "sd15"
CONFIGS = Path(__file__).parents[2] / "configs"
KEYS_AND_VALUES = 19_169_280
# Published half-precision files, in MB: 44.6 (ip-adapter_sd15), 98.2 (plus), 96.7 (faceid).
PROJECTIONS = {"ip_adapter": 3_150_336, "ip_adapter_plus": 29_918_208, "ip_adapter_faceid": 3_675_648}
UPDATES = 25_509_888
TOKENS = {"ip_adapter": 4, "ip_adapter_plus": 16, "ip_adapter_faceid": 4}


def build(name: str, **changes: Any) -> ImagePrompt:
    model = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())["model"]
    arguments = {k: v for k, v in model["init_args"].items() if k != "backbone"} | changes
    method = getattr(lightning_modules, model["class_path"].removeprefix("lightning_modules."))
    with torch.device("meta"):
        return method(empty_backbone(FOLDER), **arguments)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def empty(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta")


@pytest.mark.parametrize("name", PROJECTIONS)
def test_parameters_are_those_of_the_published_file(name: str) -> None:
    module = build(name)
    updates = UPDATES if name == "ip_adapter_faceid" else 0
    assert count(module.project) == PROJECTIONS[name]
    assert count(module.attention) == KEYS_AND_VALUES
    assert count(module.adapter()) == PROJECTIONS[name] + KEYS_AND_VALUES + updates
    megabytes = {"ip_adapter": 44.6, "ip_adapter_plus": 98.2, "ip_adapter_faceid": 96.7}[name]
    assert 2 * count(module.adapter()) / 1e6 == pytest.approx(megabytes, abs=0.1)


def test_faceid_without_updates_is_smaller_by_them() -> None:
    assert count(build("ip_adapter_faceid", lora_rank=None).adapter()) == 22_844_928


@pytest.mark.parametrize("name", PROJECTIONS)
def test_requests_condition_on_the_tokens(name: str) -> None:
    module = build(name)
    shape = tuple(module.feature_shape().values())
    batch = RequestBatch(
        ("r0",),
        ("s0",),
        ("a <subject>",),
        empty(1, 4, 64, 64),
        Text(empty(1, 77, 768)),
        {module.needs[0]: empty(1, *shape)},
    )
    conditioning = module.conditioning(batch)
    assert conditioning.identity is not None and conditioning.identity.shape == (1, TOKENS[name], 768)
    t = torch.empty(1, dtype=torch.int64, device="meta")
    assert module.denoise(batch.noise, t, conditioning).shape == (1, 4, 64, 64)


def test_the_image_encoder_has_the_patches_that_the_configuration_says() -> None:
    with torch.device("meta"):
        vision = CLIPVisionModel(CLIPVisionConfig.from_pretrained(FOLDER / "image_encoder"))
        states = vision(pixel_values=empty(2, 3, 224, 224), output_hidden_states=True).hidden_states[-2]
    assert states.shape == (2, *build("ip_adapter_plus").feature_shape().values())
