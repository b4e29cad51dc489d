"""The pocket base model: a latent diffusion model that stock ``StableDiffusionPipeline`` loads.

UNet and text encoder are trained together (the text encoder from scratch); the latents are those of the pocket
autoencoder. It predicts velocity (Salimans and Ho 2022, section 4): at this size it learns faster than noise
prediction does.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from pocket.tokenizer import TEXT_LENGTH
from pocket.training import fit, generator

_SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
}


def build_unet() -> UNet2DConditionModel:
    """Channels 64 and 128, cross-attention at 16 x 16 and 8 x 8."""
    return UNet2DConditionModel(
        sample_size=16,
        layers_per_block=1,
        block_out_channels=(64, 128),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=128,
        attention_head_dim=2,
        norm_num_groups=16,
    )


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Three layers of width 128."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=512,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=TEXT_LENGTH,
            projection_dim=128,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def assemble(
    vae: AutoencoderKL, text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer, unet: UNet2DConditionModel
) -> StableDiffusionPipeline:
    """The folder's contents as a stock pipeline."""
    scheduler = DDIMScheduler(**_SCHEDULE, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    return StableDiffusionPipeline(
        vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def train_base(
    moments: NDArray[np.float16],
    captions: list[str],
    scaling_factor: float,
    tokenizer: CLIPTokenizer,
    folder: Path,
    steps: int,
    batch: int = 32,
    rate: float = 1e-3,
) -> tuple[CLIPTextModel, UNet2DConditionModel]:
    """Velocity MSE at uniform timesteps, 10 % empty captions, weights averaged."""
    torch.manual_seed(0)
    unet, text_encoder = build_unet(), build_text_encoder(tokenizer)
    model = nn.ModuleDict({"unet": unet, "text_encoder": text_encoder})
    # On a CPU in bfloat16 plain attention and channels-last convolutions are about twice as fast as the defaults.
    unet.set_attn_processor(AttnProcessor())
    unet.to(memory_format=torch.channels_last)
    text_encoder.set_attn_implementation("eager")
    noising = DDPMScheduler(**_SCHEDULE)
    ids = torch.tensor(tokenizer(captions, padding="max_length", truncation=True)["input_ids"], dtype=torch.int32)
    empty = torch.tensor(tokenizer("", padding="max_length")["input_ids"], dtype=torch.int32)

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        g = generator(4, step)
        pick = torch.randint(len(moments), (batch,), generator=g)
        mean, log_var = torch.from_numpy(moments[pick.numpy()]).float().chunk(2, dim=1)
        z = (mean + (0.5 * log_var.clamp(-30, 20)).exp() * torch.randn(mean.shape, generator=g)) * scaling_factor
        noise = torch.randn(z.shape, generator=g)
        t = torch.randint(1000, (batch,), generator=g)
        dropped = torch.rand((batch, 1), generator=g) < 0.1
        text = torch.where(dropped, empty, ids[pick]).long()
        noisy = noising.add_noise(z, noise, t).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            states = text_encoder(text).last_hidden_state
            velocity = unet(noisy, t, states).sample.float()
        value = F.mse_loss(velocity, noising.get_velocity(z, noise, t))
        return value, {"loss": value.item()}

    model.load_state_dict(fit(model, loss, steps, rate, folder / "base.pt", "base model"))
    unet.set_default_attn_processor()
    return text_encoder.eval().requires_grad_(False), unet.eval().requires_grad_(False)
