"""Plain loops, as the examples of diffusers have them, for what ours is measured beside.

Frozen encoders run in every step, frozen parts lie in the mixed precision's type, the rest is autocast; AdamW is
torch's default, nothing is compiled. Each loop trains what ours trains, so what differs is the loop.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from PIL import Image
from torch import Tensor, nn

from contracts.batch import PairBatch
from contracts.conditioning import Conditioning
from lightning_modules.base import PersonalisationModule
from networks.backbone import Backbone

Step = Callable[[], None]
CAPTION = "a photo of a person"


def pixels(backbone: Backbone, size: int, device: torch.device) -> Tensor:
    """Images (B, 3, H, W) in -1..1."""
    side = backbone.resolution
    return torch.rand(size, 3, side, side, generator=torch.Generator().manual_seed(0)).to(device) * 2 - 1


def adapter_step(
    module: PersonalisationModule, batch: PairBatch, images: nn.Module, dtype: torch.dtype | None
) -> tuple[Step, nn.Module]:
    """A step of ``train_text_to_image``'s kind on the pairs of ``batch``, whose features are encoded online.

    The loss is the method's own. Returns the step and the networks that it runs.
    """
    backbone, device = module.backbone, batch.moments.device
    for part in (backbone, images):
        part.to(dtype or torch.float32)
    photos = pixels(backbone, len(batch.sample_ids), device)
    views = F.interpolate(photos, size=int(images.config.image_size))  # type: ignore[union-attr, arg-type]
    optimiser = torch.optim.AdamW([p for p in module.adapter().parameters() if p.requires_grad], lr=1e-4)

    def step() -> None:
        with torch.no_grad():
            held = photos.to(dtype or torch.float32)
            moments = backbone.vae.encode(held).latent_dist.parameters.float()
            text = backbone.encode_text([CAPTION] * len(held))
            reference, second = (images(pixel_values=v.to(held.dtype)).pooler_output.float() for v in (views, -views))
        fresh = replace(
            batch,
            moments=moments,
            latent_noise=torch.randn_like(batch.latent_noise),
            noise=torch.randn_like(batch.noise),
            text_states=text,
            reference={**batch.reference, "clip": reference},
            second_view={**batch.second_view, "clip": second},
        )
        with torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None):
            loss = torch.stack(list(module.loss_terms(fresh).values())).sum()
        loss.backward()
        nn.utils.clip_grad_norm_(module.adapter().parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        loss.detach().item()  # for the progress bar

    return step, nn.ModuleList([backbone, images])


def textual_inversion_step(backbone: Backbone, dtype: torch.dtype | None, device: torch.device) -> Step:
    """A step of ``textual_inversion``: one photo, whose latents are made in every step; the whole table of embeddings
    is trained, and all rows but the new word's are put back."""
    unet, vae = backbone.unet, backbone.vae
    unet.to(dtype or torch.float32)
    vae.to(dtype or torch.float32)
    tables = [
        encoder.get_input_embeddings().weight.requires_grad_(True)  # type: ignore[operator]
        for encoder in backbone.text.encoders
    ]
    originals = [table.detach().clone() for table in tables]
    others = torch.ones(len(tables[0]), dtype=torch.bool, device=device)
    others[backbone.tokenizer(CAPTION).input_ids[-2]] = False
    ids = backbone.text.tokens([CAPTION])
    noising = DDPMScheduler.from_config(backbone.scheduler.config)
    optimiser = torch.optim.AdamW(tables, lr=5e-4, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimiser, factor=1.0)
    photo = pixels(backbone, 1, device)

    def step() -> None:
        with torch.no_grad():
            latents = vae.encode(photo.to(vae.dtype)).latent_dist.sample() * vae.config.scaling_factor
        noise = torch.randn_like(latents)
        t = torch.randint(0, 1000, (1,), device=device)
        noisy = noising.add_noise(latents, noise, t)
        target = noise
        if noising.config.prediction_type == "v_prediction":
            target = noising.get_velocity(latents, noise, t)
        with torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None):
            text = backbone.text(ids).of_whole_images(backbone.resolution)
            prediction = unet(noisy, t, **Conditioning.from_text(text).at(t).for_unet()).sample
        loss = F.mse_loss(prediction.float(), target.float(), reduction="mean")
        loss.backward()
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        with torch.no_grad():
            for table, original in zip(tables, originals, strict=True):
                table[others] = original[others]
        loss.detach().item()

    return step


def generate(backbone: Backbone, prompts: Sequence[str], steps: int, dtype: torch.dtype | None, folder: Path) -> Step:
    """``StableDiffusionPipeline`` as it comes, which writes each image before it goes on."""
    backbone.to(dtype or torch.float32)
    scheduler = DPMSolverMultistepScheduler.from_config(backbone.scheduler.config)
    encoders, tokenizers = list(backbone.text.encoders), backbone.text.tokenizers
    pipe: Any
    if len(encoders) == 2:
        pipe = StableDiffusionXLPipeline(
            backbone.vae, *encoders, *tokenizers, backbone.unet, scheduler, add_watermarker=False
        )
    else:
        pipe = StableDiffusionPipeline(
            backbone.vae,
            *encoders,
            *tokenizers,
            backbone.unet,
            scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    pipe.set_progress_bar_config(disable=True)

    def step() -> None:
        images = pipe(list(prompts), num_inference_steps=steps, guidance_scale=7.5, output_type="np").images
        for number, image in enumerate(images):
            Image.fromarray((255 * image).round().astype(np.uint8)).save(folder / f"{number:04d}.png")

    return step
