"""Enrolling 8 subjects in one batch against one after the other: seconds per step and subject.

It runs on the small base model of :mod:`performance.models`, because the gain depends on the network.
"""

import torch
from torch import Tensor

from contracts.batch import SubjectBatch
from lightning_modules.per_subject import PerSubjectModule
from lightning_modules.sefi_ide import SefiIDE
from networks.backbone import Backbone
from networks.keyed_noise import keyed_normal
from networks.subject_slots import clip_each
from networks.subject_tensors import VECTORS
from performance.models import small_backbone
from performance.timing import Result, Rounds, compare

SUBJECTS = tuple(f"s{i:04d}" for i in range(8))
STEPS = 4
GOAL = 3.3


def measure(rounds: Rounds | None = None) -> Result:
    """Milliseconds per step and subject, text encoder, attention loss and update included; reference / ours."""
    backbone = small_backbone()
    together = fresh(backbone, SUBJECTS)
    alone = [fresh(backbone, (name,)) for name in SUBJECTS]
    rounds = compare(
        lambda: optimise(together, SUBJECTS),
        lambda: [optimise(model, (name,)) for model, name in zip(alone, SUBJECTS, strict=True)],
        rounds,
        warmup=1,
    )
    ours, reference = (1000 * seconds / STEPS / len(SUBJECTS) for seconds in (rounds.ours, rounds.reference))
    return Result(
        "8 subjects in one batch", ours, reference, reference / ours, GOAL, "higher", "ms/step", rounds.self_ratio
    )


def fresh(backbone: Backbone, subjects: tuple[str, ...]) -> SefiIDE:
    """The method with room for ``subjects``."""
    model = SefiIDE(backbone, tokens="free", attention_side=8, learning_rate=5e-3)
    model.prepare(dict.fromkeys(subjects, "person"), len(subjects), seed=0)
    return model


def optimise(model: SefiIDE, subjects: tuple[str, ...]) -> Tensor:
    """Optimise for ``STEPS`` steps from the beginning and return the vectors (S, stages, sides, tokens, D)."""
    model.start_group(subjects)
    parameters = [p for group in model.parameter_groups() for p in group["params"]]
    optimiser = torch.optim.AdamW(parameters, lr=model.learning_rate, fused=True)
    for step in range(STEPS):
        optimiser.zero_grad()
        total = torch.stack(list(model.loss_terms(batch(model, subjects, step)).values())).sum() * len(subjects)
        total.backward()
        clip_each(parameters, 1.0)
        optimiser.step()
    model.collect()
    return torch.stack([model.subjects[name][VECTORS] for name in subjects])


def batch(model: PerSubjectModule, subjects: tuple[str, ...], step: int) -> SubjectBatch:
    """A step's batch, its noise keyed by subject and step."""
    channels, height, width = model.backbone.latent_shape

    def normal(what: str, *shape: int) -> Tensor:
        return torch.stack([keyed_normal(shape, what, name, step) for name in subjects])

    return SubjectBatch(
        group=subjects,
        step=step,
        subjects=subjects,
        prompts=("a photo of a <subject>",) * len(subjects),
        moments=torch.stack([keyed_normal((2 * channels, height, width), name) for name in subjects]),
        latent_noise=normal("latent", channels, height, width),
        noise=normal("noise", channels, height, width),
        timestep=torch.full((len(subjects),), 250 * step % 1000),
    )
