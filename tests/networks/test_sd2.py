"""Base models in the shape of Stable Diffusion 2.x: velocity as the target, linear projections, another padding."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from contracts.batch import RequestBatch
from leaderboard.generate.generation import PromptOnly
from lightning_modules.base import PersonalisationModule
from networks.sampler import SamplingSettings
from pocket.tiny.components import SIDE, tiny_base
from tests.helpers.batches import METHODS, build, request_batch

PROMPTS = ["a photo of a person on a beach", "an oil painting of a person at sunset"]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny base model with what 2.x has otherwise."""
    place = tiny_base(tmp_path_factory.mktemp("sd2") / "base")
    pipe = StableDiffusionPipeline.from_pretrained(place, safety_checker=None)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        changes = {"use_linear_projection": True, "attention_head_dim": [2, 4]}
        unet = UNet2DConditionModel.from_config({**pipe.unet.config, **changes})
    pipe.register_modules(
        unet=unet,
        tokenizer=CLIPTokenizer.from_pretrained(place / "tokenizer", pad_token="!"),
        scheduler=DDIMScheduler.from_config(pipe.scheduler.config, prediction_type="v_prediction"),
    )
    pipe.save_pretrained(place)
    return place


@pytest.mark.parametrize("negative", ["", "a sketch"])
def test_images_are_those_of_the_stock_pipeline_to_the_last_bit(folder: Path, negative: str) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    module = PromptOnly(str(folder))
    backbone = module.backbone
    assert backbone.scheduler.config.prediction_type == "v_prediction"
    assert backbone.text.tokens(PROMPTS)[0, -1] == pipe.tokenizer.pad_token_id != pipe.tokenizer.eos_token_id
    module.sampling = SamplingSettings("ddim", 4, 3.0, negative)
    start = torch.randn(2, *backbone.latent_shape)
    batch = RequestBatch(("a", "b"), ("a", "b"), tuple(PROMPTS), start, backbone.encode_text(PROMPTS), {})
    ours = module.generate(batch).numpy()
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False, set_alpha_to_one=False)
    settings = {"num_inference_steps": 4, "guidance_scale": 3.0, "output_type": "np", "height": SIDE, "width": SIDE}
    stock = pipe(PROMPTS, negative_prompt=[negative] * 2, latents=start.clone(), **settings).images
    assert np.array_equal(np.rint(stock * 255).astype(np.uint8), ours)
    assert ours.std() > 1, "an image of one colour would agree with anything"


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_scale_zero_is_the_base_model_bit_for_bit(method: type[PersonalisationModule], folder: Path) -> None:
    module, floor, batch = build(method, str(folder)), PromptOnly(str(folder)), request_batch(2)
    module.sampling = floor.sampling = SamplingSettings("ddim", 2, 3.0)
    identified = module.generate(batch)
    module.scale = 0.0  # type: ignore[assignment]
    base = floor.generate(batch)
    assert torch.equal(module.generate(batch), base) and not torch.equal(identified, base)


def test_the_full_size_is_that_of_2_1() -> None:
    """UNet and text encoder of ``stabilityai/stable-diffusion-2-1``, on the meta device."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            sample_size=96,
            cross_attention_dim=1024,
            attention_head_dim=(5, 10, 20, 20),
            use_linear_projection=True,
        )
        text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=49408, hidden_size=1024, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16
            )
        )
    assert sum(p.numel() for p in unet.parameters()) == 865_910_724
    assert sum(p.numel() for p in text.parameters()) == 340_387_840
