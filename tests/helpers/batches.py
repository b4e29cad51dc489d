"""Batches of noise in the shapes of cached features, and methods at the smallest size."""

import inspect

import torch
from torch import Tensor

import lightning_modules
from contracts.batch import FaceBatch, FactorBatch, PairBatch, RequestBatch, SubjectBatch
from contracts.files import cache_folder
from contracts.text import Text
from lightning_modules.base import PersonalisationModule
from lightning_modules.dreambooth_lora import DreamBoothLoRA
from lightning_modules.per_subject import PerSubjectModule
from networks.backbone import Backbone
from networks.keyed_noise import keyed_normal
from pocket.tiny.components import TEXT_LENGTH, TEXT_WIDTH

CLIP_WIDTH = 24
CODE_ROWS = 10
CODE_WIDTH = 8
PATCHES = 5
METHODS: list[type[PersonalisationModule]] = [
    getattr(lightning_modules, name) for name in lightning_modules.__all__ if name != "PersonalisationModule"
]
PER_SUBJECT_METHODS = [method for method in METHODS if issubclass(method, PerSubjectModule)]
_SMALL = {
    "image_width": CLIP_WIDTH,
    "image_tokens": PATCHES,
    "face_width": CLIP_WIDTH,
    "lora_rank": 4,
    "hidden": 16,
    "code_rows": CODE_ROWS,
    "code_width": CODE_WIDTH,
    "warmup_steps": 2,
    "attention_side": 8,
    "class_images": 3,
    "class_steps": 2,
    "class_guidance": 3.0,
}
SUBJECTS = tuple(f"s000{i}" for i in range(4))


def build(method: type[PersonalisationModule], backbone: Backbone | str, **arguments: object) -> PersonalisationModule:
    """The method with small sizes and the same weights at every call, away from those that a new one begins with."""
    known = inspect.signature(method).parameters
    with torch.random.fork_rng():
        torch.manual_seed(0)
        small = {k: v for k, v in _SMALL.items() if k in known}
        module = method(backbone, **small | arguments)  # type: ignore[arg-type]
        if isinstance(module, PerSubjectModule):
            enrol_at_random(module)
        for parameter in module.adapter().parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return module


def enrol_at_random(module: PerSubjectModule) -> None:
    """Four subjects in the middle of their optimisation."""
    module.prepare(dict.fromkeys(SUBJECTS, "person"), len(SUBJECTS), seed=0)
    module.start_group(SUBJECTS)
    for parameter in module.slots.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    module.collect()
    if isinstance(module, DreamBoothLoRA):
        module.make_class_images(cache_folder())


def training_batch(method: type[PersonalisationModule]) -> PairBatch | SubjectBatch:
    """What the method trains on."""
    return subject_batch() if issubclass(method, PerSubjectModule) else pair_batch()


def subject_batch(subjects: tuple[str, ...] = SUBJECTS, step: int = 0) -> SubjectBatch:
    """All of a group, at timesteps of every stage."""
    size = len(subjects)
    return SubjectBatch(
        group=subjects,
        step=step,
        subjects=subjects,
        prompts=("a photo of a <subject>",) * size,
        moments=normal(size, 8, 16, 16, key="moments"),
        latent_noise=normal(size, 4, 16, 16, key="latent"),
        noise=normal(size, 4, 16, 16, key="noise"),
        timestep=torch.arange(size) * 999 // max(1, size - 1),
    )


def normal(*shape: int, key: object = 0) -> Tensor:
    return keyed_normal(shape, "batches", key)


def pair_batch(size: int = 4, latent: tuple[int, int, int] = (4, 16, 16)) -> PairBatch:
    """Pairs of which the last is trained without identity."""
    channels, height, width = latent
    return PairBatch(
        sample_ids=tuple(f"p{i}" for i in range(size)),
        moments=normal(size, 2 * channels, height, width, key="moments"),
        latent_noise=normal(size, *latent, key="latent"),
        noise=normal(size, *latent, key="noise"),
        timestep=torch.arange(size) * 999 // max(1, size - 1),
        text_states=Text(normal(size, TEXT_LENGTH, TEXT_WIDTH, key="text")),
        drop_identity=torch.arange(size) == size - 1,
        reference=features(size, "reference"),
        second_view=features(size, "second"),
        mask=torch.ones(size, 1, height, width),
        face=head(size, height, width),
        other=features(size, "other"),
        chance=torch.arange(2 * size).view(size, 2) / (2 * size),
    )


def features(size: int, key: str) -> dict[str, Tensor]:
    """What every method asks for of ``size`` photos; a feature is a vector unless its shape is known here."""
    wanted = sorted({name for method in METHODS for name in method.needs})
    keys = {"clip": key, "wplus": f"{key} face"}
    shapes = {"wplus": (CODE_ROWS, CODE_WIDTH), "clip_patches": (PATCHES, CLIP_WIDTH)}
    return {
        name: normal(size, *shapes.get(name, (CLIP_WIDTH,)), key=keys.get(name, f"{key} {name}")) for name in wanted
    }


def head(size: int, height: int = 16, width: int = 16) -> Tensor:
    """A mask of the middle of the image, soft at its upper edge."""
    mask = torch.zeros(size, 1, height, width)
    mask[:, :, height // 4 : -height // 4, width // 4 : -width // 4] = 1.0
    mask[:, :, height // 4] *= 0.5
    return mask


def face_batch(size: int = 4) -> FaceBatch:
    """Aligned faces of which the last is trained without identity."""
    pairs = pair_batch(size)
    return FaceBatch(
        sample_ids=pairs.sample_ids,
        moments=pairs.moments,
        latent_noise=pairs.latent_noise,
        noise=pairs.noise,
        timestep=pairs.timestep,
        text_states=pairs.text_states,
        drop_identity=pairs.drop_identity,
        reference={"wplus": normal(size, CODE_ROWS, CODE_WIDTH, key="aligned")},
    )


def factor_batch(size: int = 8) -> FactorBatch:
    """Two poses and two backgrounds, which the feature shows."""
    pose = torch.arange(size) % 2
    background = torch.arange(size) // 2 % 2
    features = normal(size, CLIP_WIDTH, key="factors")
    features[:, 0] += 3.0 * pose
    features[:, 1] += 3.0 * background
    return FactorBatch(
        tuple(f"f{i}" for i in range(size)), {"clip": features}, pose, background, torch.arange(size) // 4
    )


def request_batch(size: int = 3) -> RequestBatch:
    return RequestBatch(
        request_ids=tuple(f"r{i}" for i in range(size)),
        subjects=("s0000",) * size,
        prompts=("a photo of a <subject>",) * size,
        noise=normal(size, 4, 16, 16, key="start"),
        text_states=Text(normal(size, TEXT_LENGTH, TEXT_WIDTH, key="prompt")),
        reference=features(size, "reference"),
    )
