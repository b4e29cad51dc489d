"""The pocket autoencoder: a small ``AutoencoderKL``, 64 x 64 pixels to 4 x 16 x 16 latents."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from tqdm import tqdm

from contracts.files import atomic_path
from pocket.models.bank import Bank
from pocket.models.computing import autocast, device, send
from pocket.models.training import Shown, fit, generator


def build_vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=64,
    )


def to_pixels(images: np.ndarray) -> torch.Tensor:
    """(B, H, W, 3) uint8 to (B, 3, H, W) in -1..1."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def train_vae(
    bank: Bank, folder: Path, joint_steps: int, decoder_steps: int, batch: int = 8, rate: float = 2e-3
) -> AutoencoderKL:
    """L1 + 2 MSE + a touch of KL for both halves, then the decoder alone on the latents it will always see."""
    vae = train_jointly(bank, folder, joint_steps, batch, rate)
    return train_decoder(vae, bank, encode_bank(vae, bank, folder), folder, decoder_steps, batch, rate / 2)


def train_jointly(
    bank: Bank, folder: Path, until: int, batch: int = 8, rate: float = 2e-3, schedule: int = 8000
) -> AutoencoderKL:
    """Encoder and decoder together; sets the latent scale so that latents have unit variance."""
    torch.manual_seed(0)
    vae = build_vae()

    def loss(step: int) -> tuple[torch.Tensor, Shown]:
        g = generator(1, step)
        pick = torch.randint(len(bank), (batch,), generator=g).sort().values.numpy()
        x = send(to_pixels(bank.images[pick]))
        with autocast():
            mean, log_var = vae.quant_conv(vae.encoder(x)).float().chunk(2, dim=1)
            log_var = log_var.clamp(-30, 20)
            z = mean + (0.5 * log_var).exp() * send(torch.randn(mean.shape, generator=g))
            y = vae.decoder(vae.post_quant_conv(z)).float()
        kl = 0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum(dim=(1, 2, 3)).mean()
        value, shown = _reconstruction(y, x)
        return value + 1e-6 * kl, {**shown, "kl": kl.detach()}

    vae.load_state_dict(fit(vae, loss, schedule, rate, folder / "vae.pt", "vae", until=until))
    vae.eval().requires_grad_(False)
    with torch.inference_mode():
        means = torch.cat([vae.encode(to_pixels(bank.images[i : i + 64])).latent_dist.mean for i in range(0, 2048, 64)])
    vae.register_to_config(scaling_factor=round(1 / means.std().item(), 4))
    return vae


def encode_bank(vae: AutoencoderKL, bank: Bank, folder: Path) -> NDArray[np.float16]:
    """(N, 8, 16, 16) posterior means and log-variances of the whole bank, encoded once."""
    file = folder / "moments.npy"
    if not file.exists():
        parts = []
        vae.to(device())
        for i in tqdm(range(0, len(bank), 128), desc="encoding the bank"):
            with torch.inference_mode(), autocast():
                x = send(to_pixels(bank.images[i : i + 128]))
                parts.append(vae.quant_conv(vae.encoder(x)).half().cpu().numpy())
        vae.to("cpu")
        with atomic_path(file) as temporary, temporary.open("wb") as stream:
            np.save(stream, np.concatenate(parts))
    return np.load(file)


def train_decoder(
    vae: AutoencoderKL,
    bank: Bank,
    moments: NDArray[np.float16],
    folder: Path,
    steps: int,
    batch: int = 8,
    rate: float = 1e-3,
) -> AutoencoderKL:
    """Train the decoder alone. The latents do not change, so a UNet can be trained on them at the same time."""
    decoder = torch.nn.ModuleDict({"decoder": vae.decoder, "post_quant_conv": vae.post_quant_conv}).requires_grad_(True)

    def loss(step: int) -> tuple[torch.Tensor, Shown]:
        g = generator(3, step)
        pick = torch.randint(len(bank), (batch,), generator=g).sort().values.numpy()
        mean, log_var = torch.from_numpy(moments[pick]).float().chunk(2, dim=1)
        z = mean + (0.5 * log_var.clamp(-30, 20)).exp() * torch.randn(mean.shape, generator=g)
        with autocast():
            y = vae.decoder(vae.post_quant_conv(send(z))).float()
        return _reconstruction(y, send(to_pixels(bank.images[pick])))

    decoder.load_state_dict(fit(decoder, loss, steps, rate, folder / "decoder.pt", "decoder"))
    return vae.eval().requires_grad_(False)


def _reconstruction(y: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, Shown]:
    mse = F.mse_loss(y, x)
    return F.l1_loss(y, x) + 2 * mse, {"psnr": 10 * (4 / mse.detach()).log10()}
