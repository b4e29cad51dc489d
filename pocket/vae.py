"""The pocket autoencoder: a small ``AutoencoderKL``, 64 x 64 pixels to 4 x 16 x 16 latents."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from pocket.bank import Bank
from pocket.training import fit, generator


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


def train_vae(bank: Bank, folder: Path, steps: int, batch: int = 16, rate: float = 2e-3) -> AutoencoderKL:
    """L1 + 2 MSE + a touch of KL; then the latent scale is set so that latents have unit variance."""
    torch.manual_seed(0)
    vae = build_vae()

    def loss(step: int) -> tuple[torch.Tensor, dict[str, float]]:
        g = generator(1, step)
        pick = torch.randint(len(bank), (batch,), generator=g).sort().values.numpy()
        x = to_pixels(bank.images[pick])
        with torch.autocast("cpu", torch.bfloat16):
            mean, log_var = vae.quant_conv(vae.encoder(x)).float().chunk(2, dim=1)
            log_var = log_var.clamp(-30, 20)
            z = mean + (0.5 * log_var).exp() * torch.randn(mean.shape, generator=g)
            y = vae.decoder(vae.post_quant_conv(z)).float()
        mse = F.mse_loss(y, x)
        kl = 0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum(dim=(1, 2, 3)).mean()
        return F.l1_loss(y, x) + 2 * mse + 1e-6 * kl, {"psnr": 10 * np.log10(4 / mse.item()), "kl": kl.item()}

    vae.load_state_dict(fit(vae, loss, steps, rate, folder / "vae.pt", "vae"))
    vae.eval().requires_grad_(False)
    with torch.inference_mode():
        means = torch.cat([vae.encode(to_pixels(bank.images[i : i + 64])).latent_dist.mean for i in range(0, 2048, 64)])
    vae.register_to_config(scaling_factor=round(1 / means.std().item(), 5))
    return vae
