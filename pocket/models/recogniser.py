"""The pocket face recognisers: ArcFace's interface (112 x 112 RGB crop to 512 numbers) on small residual networks.

A source image holds a face in about 45 pixels, so the crop is averaged to 56 x 56 before the first
convolution: nothing is lost and three quarters of the work is saved. The two recognisers differ in width, seed and
objective, so that a method that was conditioned on one can be judged by the other.
"""

from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from pocket.models.bank import Bank
from pocket.models.computing import autocast, send
from pocket.models.detector import Residual, conv
from pocket.models.face_views import aligned, degrade
from pocket.models.training import Shown, fit, generator
from pocket.render.factors import BEARDS, HAIR_STYLES, STYLES, Subject, draw_subject

EMBEDDING = 512


@dataclass(frozen=True)
class Recipe:
    """How one recogniser is made: widths and residual blocks at 28, 14 and 7 cells a side, seed, objective, steps."""

    widths: tuple[int, int, int]
    blocks: tuple[int, int, int]
    seed: int
    objective: Literal["pairs", "classes"]
    steps: int
    rate: float = 2e-3


RECIPES = {
    "faces_a": Recipe(widths=(32, 64, 128), blocks=(0, 1, 1), seed=1, objective="pairs", steps=800),
    "faces_b": Recipe(widths=(24, 48, 96), blocks=(0, 2, 1), seed=2, objective="classes", steps=1500),
}


class Recogniser(nn.Module):
    """(B, 3, 112, 112) in -1..1 to (B, 512), not normalised."""

    def __init__(self, widths: tuple[int, int, int], blocks: tuple[int, int, int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, width, depth in zip((3, *widths), widths, blocks, strict=False):
            layers += [conv(before, width, 2), *(Residual(width) for _ in range(depth))]
        self.trunk = nn.Sequential(*layers, nn.Conv2d(widths[-1], 32, 1))
        self.project = nn.Sequential(nn.Flatten(), nn.Linear(32 * 49, EMBEDDING, bias=False), nn.BatchNorm1d(EMBEDDING))

    def forward(self, crops: Tensor) -> Tensor:
        return self.project(self.trunk(F.avg_pool2d(crops, 2)))


class Trainee(nn.Module):
    """A recogniser with what only training needs: class centres and a reader of the appearance factors."""

    def __init__(self, recipe: Recipe, subjects: int, factors: int) -> None:
        super().__init__()
        self.recogniser = Recogniser(recipe.widths, recipe.blocks)
        self.reader = nn.Linear(EMBEDDING, factors)
        self.log_scale = nn.Parameter(torch.tensor(2.5))
        if recipe.objective == "classes":
            self.centres = nn.Parameter(torch.randn(subjects, EMBEDDING) * 0.05)


def appearance(subject: Subject) -> NDArray[np.float32]:
    """All factors of a subject as one vector, roughly of unit spread: numbers as they are, words as indicators."""
    numbers: list[float] = []
    for field, value in zip(fields(subject), astuple(subject), strict=True):
        if field.name in ("skin", "hair_colour", "eye_colour"):
            numbers += [(c - 128) / 70 for c in value]
        elif field.name == "hair_style":
            numbers += [2.0 * (value == s) for s in HAIR_STYLES]
        elif field.name == "beard":
            numbers += [2.0 * (value == s) for s in BEARDS]
        elif field.name == "mole":
            numbers += [2.0 * (value is not None), *((4 * c for c in value) if value else (0.0, 0.0))]
        elif isinstance(value, float | bool):
            numbers.append(float(value))
    return np.array(numbers, np.float32)


class Views:
    """Endless aligned views of the bank's subjects: three in four are photos, the others have any style."""

    def __init__(self, bank: Bank) -> None:
        self.bank = bank
        self.subjects = int(bank.subject.max()) + 1
        self.rows = np.argsort(bank.subject, kind="stable").reshape(self.subjects, -1)
        photos = bank.style[self.rows] == STYLES.index("photo")
        self.photos = [rows[mask] if mask.any() else rows for rows, mask in zip(self.rows, photos, strict=True)]

    def draw(self, subject: int, rng: np.random.Generator) -> NDArray[np.uint8]:
        """One 112 x 112 crop."""
        rows = self.photos[subject] if rng.random() < 0.5 else self.rows[subject]
        row = rows[rng.integers(len(rows))]
        return aligned(degrade(np.asarray(self.bank.images[row]), rng, colour=0.06), self.bank.landmarks[row], rng)


def pair_loss(embeddings: Tensor, scale: Tensor, margin: float = 0.1) -> Tensor:
    """Two views of each of N subjects (2N, D), first views first: cross-entropy of finding the other view.

    The margin is taken from the cosine of the right pair, so that a pair must win by more than a hair.
    """
    unit = F.normalize(embeddings.float())
    n = len(unit) // 2
    cosine = unit @ unit.T - 2 * torch.eye(2 * n, device=unit.device)
    partner = (torch.arange(2 * n, device=unit.device) + n) % (2 * n)
    cosine = cosine - margin * F.one_hot(partner, 2 * n)
    return F.cross_entropy(scale * cosine, partner)


def class_loss(embeddings: Tensor, centres: Tensor, subject: Tensor, scale: float, margin: float) -> Tensor:
    """CosFace (arXiv 1801.09414, equation 4): softmax over cosines to class centres with an additive margin."""
    cosine = F.normalize(embeddings.float()) @ F.normalize(centres).T
    return F.cross_entropy(scale * (cosine - margin * F.one_hot(subject, len(centres))), subject)


def train_recogniser(bank: Bank, folder: Path, name: str, steps: int | None = None, batch: int = 256) -> Recogniser:
    """Train the recogniser called ``name`` (see ``RECIPES``) on ``batch`` views a step, two of each subject drawn.

    ``steps`` is the recipe's unless given. State is kept in ``folder``, so a stopped run goes on.
    """
    recipe = RECIPES[name]
    steps = steps or recipe.steps
    torch.manual_seed(recipe.seed)
    views = Views(bank)
    wanted = np.stack([appearance(draw_subject(f"bank/{i}/0")) for i in range(views.subjects)])
    factors = torch.from_numpy((wanted - wanted.mean(axis=0)) / (wanted.std(axis=0) + 1e-6))
    trainee = Trainee(recipe, views.subjects, factors.shape[1])
    each = min(batch // 2, views.subjects)

    def draw(step: int) -> tuple[Tensor, NDArray[np.uint8]]:
        rng = np.random.default_rng((recipe.seed, 23, step))
        subject = torch.randperm(views.subjects, generator=generator(recipe.seed, step))[:each].repeat(2)
        return subject, np.stack([views.draw(int(i), rng) for i in subject])

    def loss(step: int, drawn: tuple[Tensor, NDArray[np.uint8]]) -> tuple[Tensor, Shown]:
        subject, crops = send(drawn[0]), send(torch.from_numpy(drawn[1])).permute(0, 3, 1, 2).float()
        with autocast():
            out = trainee.recogniser(((crops - 127.5) / 127.5).to(memory_format=torch.channels_last)).float()
        # Reading who it is from what the person looks like teaches in the first minutes, when identities do not yet.
        read = F.smooth_l1_loss(trainee.reader(out), send(factors[drawn[0]]))
        if recipe.objective == "pairs":
            identity = pair_loss(out, trainee.log_scale.exp().clamp(max=40.0))
        else:
            identity = class_loss(
                out, trainee.centres, subject, scale=24.0, margin=0.2 * min(1.0, step / (0.3 * steps))
            )
        return identity + 2 * read, {"identity": identity.detach(), "read": read.detach()}

    averaged = fit(trainee, loss, steps, recipe.rate, folder / f"{name}.pt", name, decay=0.99, views=draw)
    trainee.load_state_dict(averaged)
    return trainee.recogniser.eval()
