from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, StableDiffusionPipeline
from torch import Tensor

from contracts.conditioning import Conditioning
from contracts.errors import LikenessError
from contracts.text import Text
from networks.backbone import Backbone, load_backbone
from networks.keyed_noise import keyed_normal
from networks.sampler import SamplingSettings, build_sampler, sample
from pocket.models.paths import BASE

PROMPTS = ["a photo of a person on a beach", "an oil painting of a person", "a person", "a red hat", "at sunset"]


def text(backbone: Backbone, prompts: list[str]) -> Conditioning:
    return Conditioning.from_text(backbone.encode_text(prompts))


def generate(backbone: Backbone, settings: SamplingSettings, prompts: list[str], noise: Tensor) -> Tensor:
    """Latents of the stock UNet for prompts and noise, one row each."""

    def denoise(z: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        return backbone.unet(z, t, encoder_hidden_states=conditioning.at(t).text_keys).sample

    scheduler = build_sampler(settings, backbone.scheduler)
    return sample(denoise, scheduler, noise, text(backbone, prompts), text(backbone, [""] * len(prompts)), settings)


def noise_of(backbone: Backbone, count: int) -> Tensor:
    return torch.stack([keyed_normal(backbone.latent_shape, "test", i) for i in range(count)])


@pytest.mark.parametrize("sampler", ["ddim", "dpm-solver++"])
def test_an_image_does_not_depend_on_its_batch(backbone: Backbone, sampler: str) -> None:
    settings = SamplingSettings(sampler, steps=4)
    noise = noise_of(backbone, 5)
    together = generate(backbone, settings, PROMPTS, noise)
    alone = torch.cat([generate(backbone, settings, PROMPTS[i : i + 1], noise[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)
    images = backbone.decode(together).int() - backbone.decode(alone).int()
    assert images.abs().max() <= 1
    assert not torch.allclose(together[0], together[1], atol=1e-2), "requests differ from one another"


def test_guidance_in_one_call_equals_two_calls(backbone: Backbone) -> None:
    settings = SamplingSettings("ddim", steps=4, guidance=3.0)
    noise = noise_of(backbone, 2)
    words = backbone.encode_text(PROMPTS[:2]).states
    nothing = backbone.encode_text(["", ""]).states
    scheduler = build_sampler(settings, backbone.scheduler)
    scheduler.set_timesteps(4)
    z = noise
    with torch.no_grad():
        for t in scheduler.timesteps:
            with_text = backbone.unet(z, t, encoder_hidden_states=words).sample
            without = backbone.unet(z, t, encoder_hidden_states=nothing).sample
            z = scheduler.step(without + 3.0 * (with_text - without), t, z).prev_sample
    torch.testing.assert_close(generate(backbone, settings, PROMPTS[:2], noise), z, atol=1e-4, rtol=1e-4)


def test_guidance_one_leaves_the_unconditional_branch_out(backbone: Backbone) -> None:
    sizes = []

    def denoise(z: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        sizes.append(len(z))
        return backbone.unet(z, t, encoder_hidden_states=conditioning.at(t).text_keys).sample

    nowhere = Conditioning.from_text(Text(torch.full_like(backbone.encode_text(PROMPTS[:2]).states, torch.nan)))
    for guidance, finite, rows in ((1.0, True, 2), (1.5, False, 4)):
        settings = SamplingSettings("ddim", steps=2, guidance=guidance)
        scheduler = build_sampler(settings, backbone.scheduler)
        latents = sample(denoise, scheduler, noise_of(backbone, 2), text(backbone, PROMPTS[:2]), nowhere, settings)
        assert bool(latents.isfinite().all()) is finite
        assert sizes == [rows, rows]
        sizes.clear()


@pytest.mark.parametrize(
    ("pocket", "sampler", "prediction"),
    [
        (False, "ddim", "epsilon"),
        (False, "ddim", "v_prediction"),
        (False, "dpm-solver++", "epsilon"),
        (False, "dpm-solver++", "v_prediction"),
        pytest.param(
            True, "ddim", "v_prediction", marks=pytest.mark.skipif(not BASE.is_dir(), reason="no pocket base model")
        ),
    ],
)
def test_images_are_those_of_the_stock_pipeline(base_folder: Path, pocket: bool, sampler: str, prediction: str) -> None:
    folder = str(BASE if pocket else base_folder)
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    backbone = load_backbone(folder)
    config = {**backbone.scheduler.config, "prediction_type": prediction}
    backbone.scheduler = DDIMScheduler.from_config(config)
    pipeline.scheduler = backbone.scheduler
    if sampler == "dpm-solver++":
        pipeline.scheduler = DPMSolverMultistepScheduler.from_config(
            config, algorithm_type="dpmsolver++", solver_order=2
        )
    noise = noise_of(backbone, 2)
    stock = pipeline(
        PROMPTS[:2], latents=noise.clone(), num_inference_steps=3, guidance_scale=3.0, output_type="np", eta=0.0
    ).images
    ours = backbone.decode(generate(backbone, SamplingSettings(sampler, 3, 3.0), PROMPTS[:2], noise)).numpy()
    assert np.abs(ours / 255.0 - stock).max() <= 1 / 255
    assert ours.std() > 1, "an image of one colour would agree with anything"


def test_every_batch_has_a_scheduler_of_its_own(backbone: Backbone) -> None:
    settings = SamplingSettings("dpm-solver++", steps=4)
    first, second = (build_sampler(settings, backbone.scheduler) for _ in range(2))
    assert first is not second and first is not backbone.scheduler
    assert first.config.prediction_type == backbone.scheduler.config.prediction_type
    assert torch.equal(first.alphas_cumprod, backbone.scheduler.alphas_cumprod)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sampler": "dimm"}, "sampling.sampler: unknown sampler 'dimm'; choose one of ddim, dpm-solver"),
        ({"steps": 0}, "sampling.steps: must be at least 1, not 0"),
        ({"guidance": 1.0, "negative_prompt": "blurred"}, "sampling.guidance: 1 leaves out the branch"),
    ],
)
def test_wrong_settings_name_the_key(settings: dict, message: str) -> None:
    with pytest.raises(LikenessError, match=message):
        SamplingSettings(**settings)
