"""The pocket models against their floors: ``python -m pocket.quality`` prints a table and exits 1 below a floor.

Everything is measured on renders of subjects that no pocket model was trained on (keys ``unseen/...``).
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from contracts.commands import as_command
from datamodules.requests import request_batch
from leaderboard.generate.generation import PromptOnly
from networks.backbone import Backbone, load_backbone
from networks.clip_image import load_clip_image
from networks.clip_judge import ClipJudge
from networks.face_analysis import FacePack
from networks.keyed_noise import keyed_normal
from networks.sampler import SamplingSettings
from pocket.models import paths
from pocket.models.bank import Bank, collect, render_bank
from pocket.models.base_model import noun_id, token_ids
from pocket.models.grounding import WatchedAttention, share_outside
from pocket.models.manifest import verify
from pocket.quality.faces import Row, face_floors, judge_rows, unseen_photos
from pocket.quality.style import style_floors
from pocket.quality.words import word_rows
from pocket.render.captions import CLASS_NOUN, caption
from pocket.render.factors import BACKGROUNDS, POSES, draw_shot, draw_subject
from pocket.render.renderer import Render, render

_WIDTH = 92  # of the longest name in the table


def unseen_bank(n: int) -> Bank:
    """``n`` renders of ``n`` unseen subjects, with captions that say everything."""
    return collect(render_bank("unseen", n, 1, appearance=1.0, detail=1.0))


def reconstruction_psnr(backbone: Backbone, images: NDArray[np.uint8]) -> float:
    """Mean over images of the PSNR in dB between 8-bit images and their reconstructions from the posterior's mean."""
    values = []
    for batch in _batches(images, 50):
        mean = backbone.posterior_mean(backbone.encode_moments(batch))
        back = backbone.decode(mean).numpy().astype(np.float64)
        values += list(10 * np.log10(255**2 / np.maximum(((back - batch) ** 2).mean(axis=(1, 2, 3)), 1e-9)))
    return float(np.mean(values))


def retrieval(judge: ClipJudge, images: NDArray[np.uint8], captions: list[str], group: int = 100) -> float:
    """Share of captions whose own image scores highest among ``group`` images."""
    hits = []
    for first in range(0, len(images) - group + 1, group):
        features = judge.image_features(images[first : first + group])
        words, _ = judge.text_features(captions[first : first + group])
        hits.append(((words @ features.T).argmax(1) == torch.arange(group)).float().mean().item())
    return float(np.mean(hits))


def generate_samples(
    backbone: Backbone, prompts: list[str], settings: SamplingSettings, batch: int = 16
) -> NDArray[np.uint8]:
    """One sample (64, 64, 3) for each prompt from the base model alone."""
    floor = PromptOnly(backbone)
    floor.sampling = settings
    images = []
    for first in range(0, len(prompts), batch):
        some = prompts[first : first + batch]
        ids = [f"quality{first + i}" for i in range(len(some))]
        requests = request_batch(
            request_ids=ids,
            subjects=ids,
            prompts=some,
            noise_keys=[("quality", name) for name in ids],
            latent_shape=backbone.latent_shape,
            text_states=backbone.encode_text(some),
        )
        images.append(floor.generate(requests).numpy())
    return np.concatenate(images)


def own_prompt_is_best(judge: ClipJudge, images: NDArray[np.uint8], prompts: list[str], among: int = 8) -> float:
    """Share of samples whose own prompt beats the ``among - 1`` prompts that follow it in the list."""
    features = judge.image_features(images)
    words, _ = judge.text_features(prompts)
    n = len(prompts)
    hits = 0
    for i in range(n):
        rivals = torch.tensor([(i + k) % n for k in range(among)])
        hits += int((words[rivals] @ features[i]).argmax()) == 0
    return hits / n


@torch.no_grad()
def noun_attention_focus(backbone: Backbone, renders: Sequence[Render]) -> tuple[float, float]:
    """The share of the class noun's attention that lies on the person in noised photos, and the share that they cover.

    Both are means over all layers, photos and five noise levels; ``claims.attention_focus`` reads one grid's layers.
    """
    images = np.stack([d.image for d in renders])
    prompt = f"a photo of a {CLASS_NOUN}"
    masks = torch.from_numpy(np.stack([d.mask for d in renders]))[:, None].float() / 255
    nouns = (token_ids(backbone.tokenizer, [prompt]) == noun_id(backbone.tokenizer)).float().expand(len(images), -1)
    text = backbone.encode_text([prompt]).states.expand(len(images), -1, -1)
    moments = backbone.encode_moments(images)
    latents = backbone.latents_from_moments(moments, torch.zeros(len(images), *backbone.latent_shape))
    noising = DDPMScheduler.from_config(backbone.scheduler.config)
    watched = WatchedAttention()
    before = backbone.unet.attn_processors
    backbone.unet.set_attn_processor(watched)
    for step in (100, 300, 500, 700, 900):
        t = torch.full((len(images),), step)
        noise = keyed_normal(tuple(latents.shape), "focus", step)
        backbone.unet(noising.add_noise(latents, noise, t), t, text)
    backbone.unet.set_attn_processor(before)
    outside = torch.stack([share_outside(shares, nouns, masks) for shares in watched.maps])
    return float(1 - outside.mean()), float(masks.mean())


def probe_rows(images: NDArray[np.uint8], labels: dict[str, NDArray[np.int64]]) -> Iterator[tuple[str, float, float]]:
    """(factor, accuracy of a linear probe on the pooled CLIP feature, chance) for every factor."""
    encoder = load_clip_image(str(paths.CLIP))
    features = np.concatenate([encoder.encode(batch).numpy() for batch in _batches(images, 100)])
    features = (features - features.mean(0)) / features.std(0)
    for name, label in labels.items():
        x, x_test, y, y_test = train_test_split(features, label, test_size=0.3, random_state=0, stratify=label)
        probe = LogisticRegression(max_iter=400, C=0.1).fit(x, y)
        yield name, float(probe.score(x_test, y_test)), float(np.bincount(y_test).max() / len(y_test))


def probe_set(subjects: int = 40) -> tuple[NDArray[np.uint8], dict[str, NDArray[np.int64]]]:
    """A grid of unseen subjects in 8 poses before 3 backgrounds each, with its three labels."""
    images: list[NDArray[np.uint8]] = []
    labels: dict[str, list[int]] = {"identity": [], "pose": [], "background": []}
    for s in range(subjects):
        for p, pose in enumerate(POSES):
            for b in range(3):
                background = (s * 5 + p + 4 * b) % len(BACKGROUNDS)
                shot = draw_shot(f"probe/{s}/{p}/{b}", pose, BACKGROUNDS[background], "photo", accessories=False)
                images.append(render(draw_subject(f"unseen/probe{s}"), shot).image)
                for name, value in (("identity", s), ("pose", p), ("background", background)):
                    labels[name].append(value)
    return np.stack(images), {name: np.array(values) for name, values in labels.items()}


def measure(n: int) -> Iterator[Row]:
    """The rows of the table, each as soon as it is known; ``n`` renders, a fifth as many samples of the base model."""
    verify(paths.WEIGHTS)
    bank = unseen_bank(n)
    backbone = load_backbone(str(paths.BASE))
    judge = ClipJudge(str(paths.CLIP))
    yield _row("VAE reconstruction, PSNR in dB", reconstruction_psnr(backbone, bank.images), 31.0)
    yield _row("CLIP caption-to-image retrieval, 1 in 100", retrieval(judge, bank.images, bank.captions), 0.85)
    for name, accuracy, chance in probe_rows(*probe_set()):
        yield _row(f"CLIP linear probe, {name} (chance {chance:.3f})", accuracy, 3 * chance)
    for pack in (paths.FACES_A, paths.FACES_B):
        yield from face_floors(pack, n)
    yield from judge_rows(paths.FACES_B, n)
    yield from style_floors(paths.STYLE, paths.FACES_B, n)
    prompts = bank.captions[: max(16, n // 5)]
    images = generate_samples(backbone, prompts, SamplingSettings(guidance=3.0))
    yield _row("base model, own prompt best of 8", own_prompt_is_best(judge, images, prompts), 0.95)
    packs = [FacePack(folder, paths.DET_SIZE) for folder in (paths.FACES_B, paths.FACES_A)]
    yield from word_rows(
        backbone, packs, lambda said: generate_samples(backbone, [*said], SamplingSettings(guidance=3.0))
    )
    share, covered = noun_attention_focus(backbone, unseen_photos(min(n, 100), accessories=False)[0])
    yield _row(f"base model, attention of {CLASS_NOUN!r} on the person (covers {covered:.2f})", share, 0.70)


def _row(name: str, value: float, floor: float) -> Row:
    return name, value, floor, value >= floor


def _batches(images: NDArray[np.uint8], size: int) -> Iterator[NDArray[np.uint8]]:
    for first in range(0, len(images), size):
        yield images[first : first + size]


def save_grid(path: Path, columns: int = 8, rows: int = 4) -> None:
    """An image of samples of the base model at guidance 3, for the README."""
    prompts = [
        caption(draw_subject(f"unseen/{i}"), draw_shot(f"unseen/{i}/0"), f"grid/{i}") for i in range(columns * rows)
    ]
    images = generate_samples(load_backbone(str(paths.BASE)), prompts, SamplingSettings(guidance=3.0))
    tiles = images.reshape(rows, columns, 64, 64, 3).transpose(0, 2, 1, 3, 4).reshape(rows * 64, columns * 64, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(tiles).resize((columns * 128, rows * 128), Image.Resampling.NEAREST).save(path)


@as_command
def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m pocket.quality", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--renders", type=int, default=1000, help="renders of unseen subjects")
    parser.add_argument("--grid", type=Path, help="also write an image of samples there")
    arguments = parser.parse_args()
    good = True
    for name, value, floor, holds in measure(arguments.renders):
        print(f"{name:<{_WIDTH}}  {value:8.3f}  bound {floor:7.3f}  {'ok' if holds else 'MISSED'}", flush=True)
        good = good and holds
    if arguments.grid:
        save_grid(arguments.grid)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
