"""The pocket base model: a latent diffusion model that stock ``StableDiffusionPipeline`` loads.

UNet and text encoder are trained together (the text encoder from scratch); the latents are those of the pocket
autoencoder. It predicts velocity (Salimans and Ho 2022, section 4): at this size it learns faster than noise
prediction does.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from pocket.models.bank import Bank
from pocket.models.computing import autocast, device, send
from pocket.models.grounding import WatchedAttention, grounding_loss
from pocket.models.tokenizer import TEXT_LENGTH
from pocket.models.training import Shown, fit, generator
from pocket.render.captions import CLASS_NOUN

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


@dataclass(frozen=True)
class Phase:
    """One stretch of training."""

    name: str
    steps: int
    batch: int
    """Images per step."""
    rate: float
    """Peak learning rate."""
    face: float
    """How much more a latent cell of the face counts than any other."""
    features: float = 0.0
    """How much more a latent cell near an eye, the nose or a corner of the mouth counts."""
    described: float = 0.0
    """Share of captions that describe the face."""
    forming: float = 0.0
    """Share of timesteps from ``_FORMING``."""
    grounding: float = 0.0
    """Weight of :func:`grounding_loss`."""


# The timesteps at which a face takes its shape: before, there is only colour; after, only texture.
_FORMING = (150, 650)
# The whole image first. Eyes and mouths are a few cells of 256, so faces stay lopsided until those count for more.
# An adapter can ask the frozen UNet only for what words can ask it for. Hence the words for the parts of a face.
# Last, the noun learns to attend to the person.
PHASES = (
    Phase("base", 11829, 16, 1e-3, face=0.0),
    Phase("base_faces", 5000, 32, 8e-4, face=3.0),
    Phase("base_words", 7500, 32, 8e-4, face=3.0, described=0.5),
    Phase("base_features", 5500, 32, 6e-4, face=3.0, features=8.0, described=0.5, forming=0.5),
    Phase("base_grounded", 1500, 32, 5e-4, face=3.0, features=8.0, described=0.5, forming=0.5, grounding=0.1),
)


@dataclass(frozen=True)
class TrainingData:
    """What the base model is trained on: N images of S subjects."""

    bank: Bank
    moments: NDArray[np.float16]
    """(N, 2C, h, w): mean and log-variance of the VAE's posterior, unscaled."""
    masks: NDArray[np.uint8]
    """(S, M, H, W): masks of the first M shots of each subject."""
    scaling_factor: float
    """Factor of the latents."""
    tokenizer: CLIPTokenizer


def train_base(data: TrainingData, folder: Path) -> tuple[CLIPTextModel, UNet2DConditionModel]:
    """The phases of ``PHASES`` one after the other, each from the averaged weights of the one before."""
    torch.manual_seed(0)
    unet = build_unet()
    text_encoder = build_text_encoder(data.tokenizer)
    for number, phase in enumerate(PHASES):
        train_phase(unet, text_encoder, data, folder, number, phase)
    unet.set_attn_processor(AttnProcessor2_0())
    return text_encoder.eval().requires_grad_(False), unet.eval().requires_grad_(False)


def train_phase(
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    data: TrainingData,
    folder: Path,
    number: int,
    phase: Phase,
) -> None:
    """Velocity MSE with 10 % empty captions, weights averaged. Timesteps are uniform except for ``phase.forming``.

    A phase with ``grounding`` sees only shots that have a mask.
    """
    bank = data.bank
    moments = data.moments
    masks = data.masks
    tokenizer = data.tokenizer
    model = nn.ModuleDict({"unet": unet, "text_encoder": text_encoder})
    # On a CPU in bfloat16 plain attention and channels-last convolutions are about twice as fast as the defaults.
    on_cpu = device().type == "cpu"
    watched = WatchedAttention()
    unet.set_attn_processor(watched if phase.grounding else AttnProcessor() if on_cpu else AttnProcessor2_0())
    unet.to(memory_format=torch.channels_last)
    text_encoder.set_attn_implementation("eager" if on_cpu else "sdpa")
    predict = unet if on_cpu or phase.grounding else torch.compile(unet, dynamic=False)
    noising = DDPMScheduler(**_SCHEDULE)
    shots = len(bank) // len(masks)
    noun = noun_id(tokenizer)
    ids = token_ids(tokenizer, bank.captions)
    described = token_ids(tokenizer, bank.descriptions())
    empty = torch.tensor(tokenizer("", padding="max_length")["input_ids"], dtype=torch.int32)

    def loss(step: int) -> tuple[Tensor, Shown]:
        g = generator(4 + number, step)
        if phase.grounding:
            subject, shot = (torch.randint(n, (phase.batch,), generator=g) for n in masks.shape[:2])
            pick = subject * shots + shot
        else:
            pick = torch.randint(len(moments), (phase.batch,), generator=g)
        mean, log_var = torch.from_numpy(moments[pick.numpy()]).float().chunk(2, dim=1)
        z = (mean + (0.5 * log_var.clamp(-30, 20)).exp() * torch.randn(mean.shape, generator=g)) * data.scaling_factor
        z, noise = send(z), send(torch.randn(z.shape, generator=g))
        t = torch.randint(1000, (phase.batch,), generator=g)
        forming = torch.rand(phase.batch, generator=g) < phase.forming
        t = send(torch.where(forming, torch.randint(*_FORMING, (phase.batch,), generator=g), t))
        dropped = torch.rand((phase.batch, 1), generator=g) < 0.1
        named = torch.rand((phase.batch, 1), generator=g) < phase.described
        text = send(torch.where(dropped, empty, torch.where(named, described[pick], ids[pick])).long())
        noisy = noising.add_noise(z, noise, t).contiguous(memory_format=torch.channels_last)
        with autocast():
            states = text_encoder(text).last_hidden_state
            velocity = predict(noisy, t, states).sample.float()
        error = F.mse_loss(velocity, noising.get_velocity(z, noise, t), reduction="none")
        boxes, points = (torch.from_numpy(x[pick.numpy()]).float() / 4 for x in (bank.boxes, bank.landmarks))
        weight = send(1 + phase.face * inside(boxes, z.shape[-1]) + phase.features * near(points, z.shape[-1]))
        value = (weight * error).sum() / (weight.sum() * z.shape[1])
        shown = {"loss": error.detach().mean()}
        if phase.grounding:
            covered = send(torch.from_numpy(masks[subject.numpy(), shot.numpy()]).float()[:, None] / 255)
            grounding = grounding_loss(watched.maps, (text == noun).float(), covered).mean()
            watched.maps.clear()
            value = value + phase.grounding * grounding
            shown = {**shown, "grounding": grounding.detach()}
        return value, shown

    state = folder / f"{phase.name}.pt"
    model.load_state_dict(fit(model, loss, phase.steps, phase.rate, state, phase.name))


def token_ids(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """(N, L) int32, padded and cut to the tokenizer's length."""
    return torch.tensor(tokenizer(captions, padding="max_length", truncation=True)["input_ids"], dtype=torch.int32)


def noun_id(tokenizer: CLIPTokenizer) -> int:
    """The token of the class noun, which is one of the pocket tokenizer's words."""
    return tokenizer.convert_tokens_to_ids(f"{CLASS_NOUN}</w>")


def inside(boxes: Tensor, side: int) -> Tensor:
    """(B, 1, side, side): 1 where a cell's centre lies in the box (B, 4) of left, top, right, bottom in cells."""
    at = torch.arange(side) + 0.5
    left, top, right, bottom = (edge[:, None, None] for edge in boxes.unbind(1))
    across = (at >= left) & (at < right)
    down = (at[:, None] >= top) & (at[:, None] < bottom)
    return (across & down)[:, None].float()


def near(points: Tensor, side: int) -> Tensor:
    """(B, 1, side, side): 1 where a cell's centre lies within 1.5 cells of one of its image's points (B, K, 2)."""
    at = torch.arange(side) + 0.5
    across, down = points.unbind(-1)
    squared = (at - across[..., None])[:, :, None, :] ** 2 + (at - down[..., None])[:, :, :, None] ** 2
    return (squared < 1.5**2).any(1, keepdim=True).float()
