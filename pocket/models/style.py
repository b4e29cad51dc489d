"""The pocket StyleGAN2 and e4e: 64 x 64 pixels, 10 rows of width 64, trained together by reconstruction.

No discriminator takes part: the generator is the decoder of an autoencoder, with the noise weights at 0 because noise
explains nothing there. What adversarial training with style mixing gives a StyleGAN, a meaning for each level of rows,
comes from pairs of views instead: with A a warped and B a recoloured view of a face, the rows of A before a random
crossover and the rows of B from there on must give the face that is both warped as A and coloured as B. So the layout
moves into the coarse rows and the colour into the fine ones. Some steps reconstruct from the first row alone, which
gives single codes w a meaning. The mapping network is then fitted to the distribution of these w.

A second phase asks besides that a recogniser takes the reconstruction for the person, as pSp and e4e do with ArcFace
(arXiv 2008.00951, 2102.02766): in pixels, what tells two people apart is next to nothing. Its recogniser is that of
``faces_a``; the models are judged by ``faces_b``.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from networks.e4e import E4E
from networks.stylegan2 import StyleGAN2, mix_rows
from networks.wplus import save_wplus
from pocket.models.bank import Bank
from pocket.models.computing import autocast, device, send
from pocket.models.recogniser import Recogniser
from pocket.models.style_views import AlignedFaces, bank_masks, recogniser_crops, recolour, warp, warps
from pocket.models.training import Shown, fit, generator
from pocket.models.vae import to_pixels

SIZE = 64
WIDTH = 64
CHANNELS = (160, 160, 128, 64, 32)  # at 4, 8, 16, 32, 64 pixels
BLOCKS = ((16, 1), (32, 1), (48, 2), (96, 1))
# levels begin at these rows: 4 and 8 pixels, 16 and 32, 64
COARSE = 4
FINE = 8
CODE_WEIGHT = 1e-3  # of the codes' mean square; without it the rows of one level grow a hundred times above the others
IDENTITY_WEIGHT = 0.3
_SEED = 51


class StyleAutoencoder(nn.Module):
    """e4e and StyleGAN2 at pocket size, in training."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = StyleGAN2(SIZE, WIDTH, 2, CHANNELS)
        self.encoder = E4E(self.decoder.rows, WIDTH, SIZE, BLOCKS)
        for name, parameter in self.decoder.named_parameters():
            parameter.requires_grad_(not name.startswith("style.") and ".noise." not in name)
            if name.endswith("conv.weight"):
                # Demodulation takes the size out again, but small weights learn as fast as the encoder's at one rate.
                nn.init.normal_(parameter, std=1 / 8)
        for layer in self.encoder.styles.modules():
            if isinstance(layer, nn.Conv2d):
                # Codes begin with about unit spread; with torch's own rule they would be alike for all faces.
                nn.init.kaiming_normal_(layer.weight, a=0.01)


def reconstruction_loss(y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """L1 + 2 MSE, and L1 of the differences between neighbours, which keeps edges; the PSNR in dB beside it."""
    mse = F.mse_loss(y, x)
    edges = F.l1_loss(y.diff(dim=2), x.diff(dim=2)) + F.l1_loss(y.diff(dim=3), x.diff(dim=3))
    return F.l1_loss(y, x) + 2 * mse + edges, 10 * (4 / mse.detach()).log10()


def identity_loss(recogniser: Recogniser, y: Tensor, x: Tensor, landmarks: NDArray[np.float64]) -> Tensor:
    """1 minus the mean cosine of the embeddings of ``y`` and ``x``, (B, 3, S, S) in -1..1 with ``landmarks``
    (B, 5, 2)."""
    generated, own = recogniser(recogniser_crops(torch.cat([y, x]), np.tile(landmarks, (2, 1, 1)))).float().chunk(2)
    return 1 - F.cosine_similarity(generated, own.detach()).mean()


def train_style(
    bank: Bank,
    folder: Path,
    recogniser: Recogniser,
    steps: int = 8000,
    identity_steps: Sequence[int] = (4000, 8000, 8000),
    batch: int = 16,
    rate: float = 1.5e-3,
) -> StyleAutoencoder:
    """Train both networks, but for the mapping, on ``batch`` faces a step, half of them in pairs of views.

    ``recogniser`` judges the last ``identity_steps``; the rate rises and falls anew in each of the stretches. State is
    kept in ``folder``, so a stopped run goes on.
    """
    torch.manual_seed(_SEED)
    model = StyleAutoencoder()
    faces = AlignedFaces(bank, bank_masks(bank, folder), SIZE)
    recogniser = recogniser.eval().requires_grad_(False).to(device())

    def draw(first: int, step: int) -> tuple[NDArray[np.uint8], NDArray[np.float64], np.random.Generator]:
        rng = np.random.default_rng((_SEED, first + step))
        return *faces.draw(batch, rng), rng

    def loss(
        judged: bool, step: int, drawn: tuple[NDArray[np.uint8], NDArray[np.float64], np.random.Generator]
    ) -> tuple[Tensor, Shown]:
        crops, landmarks, rng = drawn
        x = send(to_pixels(crops))
        plain = x[: batch // 2]
        paired = x[batch // 2 :]
        moves = warps(len(paired), rng)
        coloured = recolour(paired, rng)
        crossover = int(rng.integers(COARSE, FINE + 1))
        alone = rng.random() < 0.1
        with autocast():
            # One batch for all views: evaluation will know only one mean and spread of them.
            codes = model.encoder(torch.cat([plain, warp(recolour(paired, rng), moves), coloured]))
            own, a, b = codes.split([len(plain), len(paired), len(paired)])
            own = own[:, :1].expand_as(own) if alone else own
            y = model.decoder(torch.cat([own, mix_rows(a, b, crossover)])).float()
        value, psnr = reconstruction_loss(y[: batch // 2], plain)
        mixed, mixed_psnr = reconstruction_loss(y[batch // 2 :], warp(coloured, moves))
        size = codes.float().square().mean()
        shown = {"psnr": psnr, "mixed": mixed_psnr, "codes": size.detach().sqrt()}
        total = value + mixed + CODE_WEIGHT * size
        if judged and not alone:
            with autocast():
                unlike = identity_loss(recogniser, y[: batch // 2], plain, landmarks[: batch // 2])
            total = total + IDENTITY_WEIGHT * unlike
            shown["identity"] = 1 - unlike.detach()
        return total, shown

    judged_phases = [(f"style_identity_{i}", count, rate / 3, True) for i, count in enumerate(identity_steps)]
    first = 0
    for name, count, peak, judged in [("style", steps, rate, False), *judged_phases]:
        state = folder / f"{name}.pt"
        averaged = fit(model, partial(loss, judged), count, peak, state, name, views=partial(draw, first))
        model.load_state_dict(averaged)
        first += count
    recogniser.to("cpu")
    return model.eval().requires_grad_(False)


def mean_code(model: StyleAutoencoder, bank: Bank, folder: Path, n: int = 4096) -> tuple[Tensor, Tensor]:
    """The mean code (rows, width) of ``n`` faces, and their w (n, width), the code of row 0."""
    faces = AlignedFaces(bank, bank_masks(bank, folder), SIZE)
    rng = np.random.default_rng((_SEED, 1, 0))
    with torch.inference_mode():
        codes = torch.cat([model.encoder(to_pixels(faces.draw(64, rng)[0])) for _ in range(0, n, 64)])
    return codes.mean(dim=0), codes[:, 0].clone()


def move_mean(encoder: E4E, mean: Tensor) -> None:
    """Take ``mean`` (rows, width) out of the heads' biases: a checkpoint's encoder gives offsets from the mean code."""
    with torch.no_grad():
        for i in range(encoder.rows):
            encoder.styles.get_parameter(f"{i}.linear.bias").sub_(mean[i] - (mean[0] if i else 0))


def fit_mapping(decoder: StyleGAN2, w: Tensor, folder: Path, steps: int = 1500, batch: int = 512) -> None:
    """Train the mapping network so that w of random z are distributed as ``w`` (N, width).

    The loss is the sliced Wasserstein distance (Bonneel et al. 2015): the squared distance between the two samples,
    sorted along random directions. Whitened first, so that every direction of the code counts.
    """
    spread = send(w.std(dim=0))
    mean = send(w.mean(dim=0))
    mapping = decoder.style.requires_grad_(True)

    def loss(step: int) -> tuple[Tensor, Shown]:
        g = generator(_SEED, 2, step)
        wanted = (send(w[torch.randint(len(w), (batch,), generator=g)]) - mean) / spread
        made = (decoder.map(send(torch.randn(batch, WIDTH, generator=g))) - mean) / spread
        directions = send(F.normalize(torch.randn(WIDTH, 128, generator=g), dim=0))
        apart = (made @ directions).sort(dim=0).values - (wanted @ directions).sort(dim=0).values
        value = apart.square().mean()
        return value, {"distance": value.detach()}

    # The layers scale their weights down at run time, hence the rate.
    mapping.load_state_dict(fit(mapping, loss, steps, 1.0, folder / "style_mapping.pt", "mapping", weight_decay=0.0))
    mapping.requires_grad_(False)


def export_style(model: StyleAutoencoder, bank: Bank, work: Path, folder: Path) -> None:
    """Fit the mapping network, set the mean code apart, and write the folder that ``load_wplus`` reads, in float16."""
    mean, w = mean_code(model, bank, work)
    fit_mapping(model.decoder, w, work)
    move_mean(model.encoder, mean)
    save_wplus(folder, model.encoder, model.decoder, mean, torch.float16)
