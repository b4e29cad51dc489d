"""The pocket CLIP: captions against images, plus an auxiliary reading of the factors from the pooled feature.

On a few hundred thousand renders, contrast alone leaves the vision tower nearly blind to identity. Linear heads
on the pooled feature, dropped after training, are asked to read the factors an image was rendered from; so the
feature carries identity, pose and background, as the features of a large CLIP do.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from pocket.models.bank import Bank
from pocket.models.computing import autocast, device, send
from pocket.models.tokenizer import TEXT_LENGTH
from pocket.models.training import Shown, fit, generator
from pocket.render import factors

MEAN = (0.48145466, 0.4578275, 0.40821073)  # CLIP's published pixel statistics
STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Phase:
    """One stretch of training: steps, peak learning rate, and the weights of the losses of numbers and of geometry."""

    name: str
    steps: int
    rate: float
    numbers: float
    geometry: float


# Captions and classes first; then pose and landmarks, which an image shows only faintly; then the proportions of the
# face, which tell one subject from another and show most faintly of all.
PHASES = (
    Phase("clip", 1500, 1e-3, 1.0, 0.0),
    Phase("clip_geometry", 900, 8e-4, 1.0, 2.0),
    Phase("clip_identity", 5000, 8e-4, 4.0, 3.0),
)


def build_clip(tokenizer: CLIPTokenizer) -> CLIPModel:
    """3 text layers of width 128, 4 vision layers of width 192 on patches of 8 pixels."""
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    common = {"projection_dim": 128}
    text = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 3, "num_attention_heads": 4}
    text |= {"vocab_size": len(tokenizer), "max_position_embeddings": TEXT_LENGTH, **common, **ids}
    vision = {"hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 4, "num_attention_heads": 6}
    vision |= {"image_size": 64, "patch_size": 8, **common}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, **common))


def image_processor() -> CLIPImageProcessorPil:
    """Preprocessing as CLIP does it, at 64 pixels."""
    return CLIPImageProcessorPil(
        size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}, image_mean=MEAN, image_std=STD
    )


def normalise(images: np.ndarray) -> Tensor:
    """(B, 64, 64, 3) uint8 to CLIP's input (B, 3, 64, 64)."""
    x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
    return (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


@dataclass(frozen=True)
class Targets:
    """What the auxiliary heads read from N images."""

    classes: dict[str, Tensor]
    """(N,) int64 by factor; -1 where an image does not show the factor."""
    numbers: Tensor
    """(N, M), standardised."""
    geometry: Tensor
    """(N, 13): pose and landmarks, standardised."""
    sizes: dict[str, int]
    """Number of classes by factor."""


_NUMBERS = (
    "face_width", "jaw", "ear_size", "hair_volume", "eye_size", "eye_aspect", "eye_spacing", "eye_height",
    "brow_thickness", "brow_tilt", "brow_gap", "nose_length", "nose_width", "mouth_width", "mouth_height",
    "lip_thickness", "lip_redness", "blush",
)  # fmt: skip


def _options() -> dict[str, tuple]:
    """Classes of every factor that is read, by name."""
    return {
        "hair_style": factors.HAIR_STYLES,
        "beard": factors.BEARDS,
        "expression": factors.EXPRESSIONS,
        "hat": factors.HATS,
        "glasses": factors.GLASSES,
        "pattern": factors.PATTERNS,
        "style": factors.STYLES,
        "background": factors.BACKGROUNDS,
        "cloth": tuple(factors.CLOTH_COLOURS),
        "hair": tuple(factors.HAIR_COLOURS),
        "skin": tuple(factors.SKIN_TONES),
        "eyes": tuple(factors.EYE_COLOURS),
        "hat_colour": tuple(factors.CLOTH_COLOURS),
        "freckles": (False, True),
        "mole": (False, True),
    }


def _factor_classes(s: factors.Subject, shot: factors.Shot) -> dict[str, object]:
    """The class of every factor in one image, ``None`` where the image cannot show it."""
    grey = shot.style == "pencil sketch"
    return {
        "hair_style": s.hair_style,
        "beard": s.beard,
        "expression": shot.expression,
        "hat": shot.hat,
        "glasses": shot.glasses,
        "pattern": shot.cloth_pattern,
        "style": shot.style,
        "background": shot.background,
        "cloth": None if grey else shot.cloth_colour,
        "hair": None if grey or s.hair_style == "bald" else s.hair_word,
        "skin": s.skin_word,
        "eyes": None if grey or shot.glasses == "sunglasses" else s.eye_word,
        "hat_colour": None if grey or shot.hat == "none" else shot.hat_colour,
        "freckles": s.freckles,
        "mole": s.mole is not None,
    }


def bank_targets(bank: Bank, shots: int) -> Targets:
    """The factors behind the bank's images, sampled again from their keys."""
    options = _options()
    rows: dict[str, list[int]] = {name: [] for name in options}
    numbers = []
    for i in range(len(bank) // shots):
        s = factors.draw_subject(f"bank/{i}/0")
        for j in range(shots):
            shot = factors.draw_shot(f"bank/{i}/0/{j}")
            values = _factor_classes(s, shot)
            for name, value in values.items():
                rows[name].append(-1 if value is None else options[name].index(value))
            colours = [c / 40 for c in (*s.skin, *s.hair_colour, *s.eye_colour)]
            numbers.append(
                [getattr(s, n) for n in _NUMBERS] + colours + [shot.yaw, shot.pitch, shot.roll, shot.light, shot.scale]
            )
    geometry = torch.cat([torch.from_numpy(bank.pose), torch.from_numpy(bank.landmarks).flatten(1)], dim=1)
    return Targets(
        {k: torch.tensor(v) for k, v in rows.items()},
        _standardised(torch.tensor(numbers)),
        _standardised(geometry),
        {k: len(v) for k, v in options.items()},
    )


def _standardised(values: Tensor) -> Tensor:
    return (values - values.mean(0)) / values.std(0)


class Readers(nn.Module):
    """A CLIP with linear heads on its pooled feature."""

    def __init__(self, clip: CLIPModel, targets: Targets) -> None:
        super().__init__()
        self.clip = clip
        self.targets = targets
        width = clip.config.vision_config.hidden_size
        self.readers = nn.ModuleDict({name: nn.Linear(width, size) for name, size in targets.sizes.items()})
        self.numbers = nn.Linear(width, targets.numbers.shape[1])
        self.geometry = nn.Linear(width, targets.geometry.shape[1])


def train_clip(bank: Bank, shots: int, tokenizer: CLIPTokenizer, folder: Path) -> CLIPModel:
    """The phases of ``PHASES`` one after the other, each from the averaged weights of the one before."""
    torch.manual_seed(0)
    model = Readers(build_clip(tokenizer), bank_targets(bank, shots))
    for number, phase in enumerate(PHASES):
        train_phase(model, bank, tokenizer, folder, number, phase)
    return model.clip.eval().requires_grad_(False)


def train_phase(model: Readers, bank: Bank, tokenizer: CLIPTokenizer, folder: Path, number: int, phase: Phase) -> None:
    """Contrastive loss over batches of 96 plus the weighted mean losses of the readers."""
    batch = 96
    targets = model.targets
    # On a CPU in bfloat16 the fused kernel is twice as slow.
    model.clip.set_attn_implementation("eager" if device().type == "cpu" else "sdpa")
    ids = torch.tensor(tokenizer(bank.captions, padding="max_length", truncation=True)["input_ids"], dtype=torch.int32)

    def loss(step: int) -> tuple[Tensor, Shown]:
        g = generator(2, number, step)
        pick = torch.randint(len(bank), (batch,), generator=g)
        text = ids[pick].long()
        text = send(text[:, : int((text != tokenizer.pad_token_id).sum(1).max()) + 1])
        pixels = send(normalise(bank.images[pick.numpy()]))
        with autocast():
            pooled = model.clip.vision_model(pixel_values=pixels).pooler_output
            image = model.clip.visual_projection(pooled)
            words = model.clip.text_projection(model.clip.text_model(input_ids=text).pooler_output)
            guesses = {name: reader(pooled) for name, reader in model.readers.items()}
            numbers = model.numbers(pooled)
            geometry = model.geometry(pooled)
        scale = model.clip.logit_scale.clamp(max=4.6).exp()
        scores = F.normalize(image.float(), dim=-1) @ F.normalize(words.float(), dim=-1).T * scale
        same = torch.arange(batch, device=scores.device)
        contrast = (F.cross_entropy(scores, same) + F.cross_entropy(scores.T, same)) / 2
        classes = {n: send(targets.classes[n][pick]) for n in guesses}
        reads = [F.cross_entropy(v.float(), classes[n], ignore_index=-1) for n, v in guesses.items()]
        read = torch.stack(reads).mean()
        off = F.mse_loss(numbers.float(), send(targets.numbers[pick]))
        bent = F.mse_loss(geometry.float(), send(targets.geometry[pick]))
        parts = {"contrast": contrast, "read": read, "off": off, "geometry": bent}
        shown = {name: part.detach() for name, part in parts.items()}
        return contrast + read + phase.numbers * off + phase.geometry * bent, shown

    state = folder / f"{phase.name}.pt"
    model.load_state_dict(fit(model, loss, phase.steps, phase.rate, state, phase.name, weight_decay=0.05))
